"""Batched decode of llama.cpp on a Qwen2 directory, through llama-cpp-python.

Usage: python llama_decode.py MODEL_DIR f32|f16|bf16|q8_0 GGUF, then one request a line on stdin:
    decode B P T   read B prompts of P tokens together, then T - 1 steps of B tokens
It computes every step's logits but does not sample: the next ids are given. GGUF is written when it is not there.
Answers as torch_policy.py. Threads: OMP_NUM_THREADS. Needs: pip install llama-cpp-python gguf safetensors numpy
"""
import ctypes
import json
import os
import resource
import sys
import time

from shapes import memory_mib, mix, sequences

BASELINE = memory_mib("VmHWM")
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def write_gguf(folder, kind, out):
    """A GGUF of the weights alone, without a vocabulary."""
    import gguf
    from safetensors.numpy import load_file
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    writer = gguf.GGUFWriter(out + ".tmp", "qwen2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    matrix = getattr(gguf.GGMLQuantizationType, kind.upper())
    for name, values in load_file(os.path.join(folder, "model.safetensors")).items():
        base, _, suffix = name.rpartition(".")
        if base.startswith("model.layers."):
            layer, base = base.removeprefix("model.layers.").split(".", 1)
            to = f"blk.{layer}.{NAMES[base]}.{suffix}"
        else:
            to = f"{NAMES[base]}.{suffix}"
        if values.ndim == 2:
            writer.add_tensor(to, gguf.quants.quantize(values, matrix), raw_dtype=matrix)
        else:
            writer.add_tensor(to, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(out + ".tmp", out)


class Engine:
    """A loaded model, and a context for the sizes at hand."""

    def __init__(self, path, threads):
        import llama_cpp
        self.cpp, self.threads, self.context, self.sizes = llama_cpp, threads, None, None
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp does not load {path}")
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def prepare(self, sizes):
        batch, prompt, new = sizes
        if self.context:
            self.cpp.llama_free(self.context)
        params = self.cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = batch * max(prompt + new, 256), batch
        params.n_batch, params.n_ubatch = max(batch * prompt, batch), 512
        params.n_threads = params.n_threads_batch = self.threads
        params.no_perf = True
        self.context, self.sizes = self.cpp.llama_init_from_model(self.model, params), sizes
        self.prompts = sequences(batch, prompt, self.vocab)
        self.batch = self.cpp.llama_batch_init(batch * max(prompt, 1), 0, 1)

    def decode(self, rows):
        """Rows are (id, position, sequence, whether its logits are needed)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, logits
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if self.cpp.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama.cpp could not decode")

    def run(self):
        batch, prompt, new = self.sizes
        self.cpp.llama_memory_clear(self.cpp.llama_get_memory(self.context), True)
        self.decode([(token, at, i, at + 1 == prompt) for i, ids in enumerate(self.prompts) for at, token in enumerate(ids)])
        for step in range(new - 1):
            self.decode([(mix(step * batch + i) % self.vocab, prompt + step, i, True) for i in range(batch)])
        logits = self.cpp.llama_get_logits_ith(self.context, 0)
        return float(logits[0])


def processor():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    folder, kind, path = sys.argv[1:4]
    if not os.path.exists(path):
        write_gguf(folder, kind, path)
    engine = Engine(path, int(os.environ.get("OMP_NUM_THREADS", "1")))
    import llama_cpp
    print(json.dumps(dict(baseline_mib=BASELINE, versions={"llama-cpp-python": llama_cpp.__version__})), flush=True)
    for line in sys.stdin:
        sizes = [int(size) for size in line.split()[1:]]
        if sizes != engine.sizes:
            engine.prepare(sizes)
        started, cpu = time.perf_counter(), processor()
        result = engine.run()
        print(json.dumps(dict(wall_s=time.perf_counter() - started, cpu_s=processor() - cpu, rss_mib=memory_mib("VmHWM"),
                              result=result)), flush=True)


if __name__ == "__main__":
    main()
