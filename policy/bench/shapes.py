"""Model shapes, prompts and a character-level tokenizer that the other scripts here share."""
import random
import string

SHAPES = {
    # 0.31 M parameters, the embedded bases' size; 0.85 M; 8.9 M; Qwen2.5-0.5B's shape.
    "t031": dict(arch="llama", vocab_size=104, hidden_size=96, intermediate_size=256, num_hidden_layers=3,
                 num_attention_heads=4, num_key_value_heads=2),
    "tiny": dict(arch="qwen2", vocab_size=512, hidden_size=128, intermediate_size=384, num_hidden_layers=4,
                 num_attention_heads=4, num_key_value_heads=2),
    "small": dict(arch="qwen2", vocab_size=4096, hidden_size=256, intermediate_size=1024, num_hidden_layers=8,
                  num_attention_heads=8, num_key_value_heads=4),
    "q05": dict(arch="qwen2", vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                num_attention_heads=14, num_key_value_heads=2),
}
PAD, BOS, EOS = 0, 1, 2
MASK = (1 << 64) - 1


def model(name, **tokens):
    """A model with random weights, seed 0."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
    shape = dict(SHAPES[name])
    config, cls = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[shape.pop("arch")]
    torch.manual_seed(0)
    return cls(config(**shape, max_position_embeddings=2048, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
                      tie_word_embeddings=True, rms_norm_eps=1e-6, **tokens)).float()


def mix(z):
    """The output function of SplitMix64."""
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def sequences(count, tokens, vocab_size):
    """The sequences of ids that `murmur bench` uses."""
    return [[mix(i * 1000 + j) % vocab_size for j in range(tokens)] for i in range(count)]


def tokenizer(vocab_size):
    """One token for each printable character; ids beyond the alphabet are private-use characters (up to 4096)."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    chars = list(string.digits + string.ascii_letters + string.punctuation + " \n")
    chars += [chr(0xE000 + i) for i in range(min(vocab_size, 4096) - 3 - len(chars))]
    vocabulary = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS}
    for char in chars:
        vocabulary[char] = len(vocabulary)
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>",
                                   padding_side="left")


def texts(count, tokens):
    """Prompts as text of the tokenizer above."""
    choose = random.Random(0)
    return ["".join(choose.choice(string.digits + "+-*=") for _ in range(tokens)) for _ in range(count)]


def memory_mib(field):
    """A field of this process's status: VmRSS (now) or VmHWM (peak)."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(field)).split()[1]) // 1024
