"""Seconds a step of TRL's GRPOTrainer on the CPU (transformers' generate, no vLLM), by phases.

Usage: OMP_NUM_THREADS=1 python trl_grpo.py --shape small --prompts 8 --group 8 --prompt 32 --new 64 [--lora 16]
One optimiser step for each batch of completions; f32 and no gradient checkpointing, which favours TRL. Prints one
JSON line; times are medians over --steps after --warmup steps. Needs: pip install torch transformers trl datasets peft
"""
import argparse
import json
import os
import resource
import statistics
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")

import torch
import transformers
import trl
from datasets import Dataset
from transformers import TrainerCallback

from shapes import BOS, EOS, PAD, SHAPES, memory_mib, model, texts, tokenizer

BASELINE = memory_mib("VmHWM")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, required=True)
    for name, default in [("prompts", 8), ("group", 8), ("prompt", 32), ("new", 64), ("steps", 3), ("warmup", 1), ("lora", 0)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def reward(completions, completion_ids, **rest):
    """The share of even ids, as `murmur bench step` rewards."""
    return [sum(i % 2 == 0 for i in ids) / max(1, len(ids)) for ids in completion_ids]


def processor():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Phases(TrainerCallback):
    """Seconds of every step, and how they divide."""

    def __init__(self):
        self.rows, self.now = [], {}

    def time(self, owner, name, phase):
        inner = getattr(owner, name)

        def timed(*args, **kwargs):
            started = time.perf_counter()
            result = inner(*args, **kwargs)
            self.now[phase] = self.now.get(phase, 0.0) + time.perf_counter() - started
            if phase == "rollout":
                self.now["tokens"] = int(result["completion_mask"].sum())
            return result
        setattr(owner, name, timed)

    def on_step_begin(self, *args, **kwargs):
        self.now = {}
        self.started, self.cpu = time.perf_counter(), processor()

    def on_step_end(self, *args, **kwargs):
        self.rows.append(dict(self.now, wall=time.perf_counter() - self.started, cpu=processor() - self.cpu))


def main():
    args = arguments()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    transformers.logging.set_verbosity_error()
    adapter = None
    if args.lora:
        from peft import LoraConfig
        adapter = LoraConfig(r=args.lora, lora_alpha=2 * args.lora, target_modules="all-linear", task_type="CAUSAL_LM")
    config = trl.GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, per_device_train_batch_size=args.prompts * args.group,
        gradient_accumulation_steps=1, num_generations=args.group, max_completion_length=args.new, learning_rate=1e-4,
        max_steps=args.steps + args.warmup, beta=0.0, temperature=1.0, report_to="none", save_strategy="no",
        disable_tqdm=True, seed=0, bf16=False, gradient_checkpointing=False, logging_steps=1)
    phases = Phases()
    trainer = trl.GRPOTrainer(
        model=model(args.shape, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS), reward_funcs=reward, args=config,
        train_dataset=Dataset.from_dict({"prompt": texts(args.prompts * 4, args.prompt)}),
        processing_class=tokenizer(SHAPES[args.shape]["vocab_size"]), peft_config=adapter, callbacks=[phases])
    trainer.pop_callback(transformers.trainer_callback.PrinterCallback)
    phases.time(trainer.model, "generate", "generate")
    phases.time(trainer, "_generate_and_score_completions", "rollout")
    trainer.train()
    rows = phases.rows[args.warmup :]
    median = lambda key: statistics.median(row[key] for row in rows)
    print(json.dumps(dict(
        wall_s=median("wall"), wall_s_each=[row["wall"] for row in rows], cpu_s=median("cpu"), generate_s=median("generate"),
        rollout_s=median("rollout"), tokens=median("tokens"), rss_mib=memory_mib("VmHWM"), baseline_mib=BASELINE,
        versions=dict(torch=torch.__version__, transformers=transformers.__version__, trl=trl.__version__))), flush=True)


if __name__ == "__main__":
    main()
