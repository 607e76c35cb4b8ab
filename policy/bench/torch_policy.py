"""A lean PyTorch baseline for the policy: sampled decode and a training step on a Qwen2 directory.

Usage: python torch_policy.py MODEL_DIR, then one request a line on stdin:
    lean B P T     sample T tokens after B prompts of P tokens (own loop: merged q/k/v, static cache, SDPA)
    leanbf B P T   the same with bf16 weights
    hf B P T       the same through transformers' generate(), which gives no log-probabilities
    train B T      forward, backward and fused AdamW on B sequences of T predicted tokens
    trainckpt B T  the same with gradient checkpointing
The first answer line is {"baseline_mib", "versions"}; then one line a request: wall_s, cpu_s, rss_mib (peak), result.
Threads: OMP_NUM_THREADS. Needs: pip install torch transformers
"""
import json
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F
import transformers
from transformers import Qwen2ForCausalLM

from shapes import memory_mib, sequences

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
BASELINE = memory_mib("VmHWM")


class Lean:
    """A decode loop without the generality of transformers."""

    def __init__(self, model):
        config, self.dtype = model.config, next(model.parameters()).dtype
        self.heads, self.kv = config.num_attention_heads, config.num_key_value_heads
        self.dim, self.eps = config.hidden_size // self.heads, config.rms_norm_eps
        self.layers = []
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
            self.layers.append((
                layer.input_layernorm.weight.detach(), torch.cat([linear.weight for linear in qkv]).detach(),
                torch.cat([linear.bias for linear in qkv]).detach(), attention.o_proj.weight.detach(),
                layer.post_attention_layernorm.weight.detach(),
                torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).detach(), mlp.down_proj.weight.detach()))
        self.embedding, self.norm = model.model.embed_tokens.weight.detach(), model.model.norm.weight.detach()
        inverse = 1 / config.rope_parameters["rope_theta"] ** (torch.arange(0, self.dim, 2).float() / self.dim)
        angles = torch.outer(torch.arange(config.max_position_embeddings).float(), inverse)
        angles = torch.cat([angles, angles], -1)
        self.cos, self.sin = angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def rope(self, x, at):
        half = self.dim // 2
        return x * self.cos[at] + torch.cat([-x[..., half:], x[..., :half]], -1) * self.sin[at]

    def forward(self, ids, keys, values, first):
        batch, tokens = ids.shape
        at, x = slice(first, first + tokens), F.embedding(ids, self.embedding)
        for layer, (norm1, w_qkv, bias, w_o, norm2, w_wide, w_down) in enumerate(self.layers):
            qkv = F.linear(F.rms_norm(x, (x.shape[-1],), norm1, self.eps), w_qkv, bias)
            qkv = qkv.view(batch, tokens, self.heads + 2 * self.kv, self.dim).transpose(1, 2)
            turned = self.rope(qkv[:, : self.heads + self.kv], at)
            keys[layer][:, :, at], values[layer][:, :, at] = turned[:, self.heads :], qkv[:, self.heads + self.kv :]
            y = F.scaled_dot_product_attention(
                turned[:, : self.heads], keys[layer][:, :, : first + tokens], values[layer][:, :, : first + tokens],
                is_causal=tokens > 1, enable_gqa=True)
            x = x + F.linear(y.transpose(1, 2).reshape(batch, tokens, -1), w_o)
            gate, up = F.linear(F.rms_norm(x, (x.shape[-1],), norm2, self.eps), w_wide).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, w_down)
        return F.linear(F.rms_norm(x[:, -1], (x.shape[-1],), self.norm, self.eps), self.embedding)

    def sample(self, prompts, new):
        batch, prompt = prompts.shape
        cache = lambda: [torch.zeros(batch, self.kv, prompt + new, self.dim, dtype=self.dtype) for _ in self.layers]
        keys, values, tokens, logprobs = cache(), cache(), [], []
        with torch.inference_mode():
            logits = self.forward(prompts, keys, values, 0)
            for step in range(new):
                rows = torch.log_softmax(logits.float(), -1)
                tokens.append(torch.multinomial(rows.exp(), 1))
                logprobs.append(rows.gather(1, tokens[-1]))
                if step + 1 < new:
                    logits = self.forward(tokens[-1], keys, values, prompt + step)
        return list(torch.cat(tokens, 1).shape)


class Requests:
    """What can be asked for; whatever a request needs again is kept."""

    def __init__(self, folder):
        self.model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
        self.vocab = self.model.config.vocab_size
        self.optimizer = self.half = self.lean = None

    def prepare(self, kind, sizes):
        if kind in ("train", "trainckpt"):
            return self.training(kind == "trainckpt", *sizes)
        batch, prompt, new = sizes
        prompts = torch.tensor(sequences(batch, prompt, self.vocab))
        if kind == "hf":
            return lambda: self.generate(prompts, new)
        if kind == "leanbf" and self.half is None:
            import copy
            self.half = copy.deepcopy(self.model).to(torch.bfloat16)
        lean = Lean(self.half if kind == "leanbf" else self.model)
        return lambda: lean.sample(prompts, new)

    def generate(self, prompts, new):
        self.model.generation_config.pad_token_id = 0
        with torch.inference_mode():
            made = self.model.eval().generate(
                prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
                max_new_tokens=new, min_new_tokens=new)
        return list(made.shape)

    def training(self, checkpointing, batch, length):
        ids = torch.tensor(sequences(batch, length + 1, self.vocab))
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
        self.model.train()
        if checkpointing:
            self.model.gradient_checkpointing_enable()
        elif self.model.is_gradient_checkpointing:
            self.model.gradient_checkpointing_disable()

        def step():
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = F.cross_entropy(logits.view(-1, self.vocab), ids[:, 1:].reshape(-1))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            return loss.item()
        return step


def processor():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    requests, key, run = Requests(sys.argv[1]), None, None
    versions = dict(torch=torch.__version__, transformers=transformers.__version__)
    print(json.dumps(dict(baseline_mib=BASELINE, versions=versions)), flush=True)
    for line in sys.stdin:
        kind, *sizes = line.split()
        if key != line:
            key, run = line, requests.prepare(kind, [int(size) for size in sizes])
        started, cpu = time.perf_counter(), processor()
        result = run()
        print(json.dumps(dict(wall_s=time.perf_counter() - started, cpu_s=processor() - cpu, rss_mib=memory_mib("VmHWM"),
                              result=result)), flush=True)


if __name__ == "__main__":
    main()
