"""Well-known open models by their published dimensions, for synthetic fleets.

Source: the config.json and safetensors index that each publisher ships; 16-bit weights,
except the 70B, which is the 4-bit AWQ version that fits one 80 GB GPU.
"""

from dataclasses import dataclass

from fleet.hardware import BaseShape


@dataclass(frozen=True, slots=True)
class PublicBase:
    """A base with its share of the adapters of a synthetic fleet."""

    name: str
    share: int
    """Part of all adapters, relative to the other bases used."""
    max_model_len: int
    """Longest prompt plus answer, tokens; less than the model allows, as operators set it."""
    shape: BaseShape


def _base(name: str, share: int, max_model_len: int, architecture: str, numbers: str) -> PublicBase:
    hidden, inner, layers, heads, kv, head, vocabulary, positions, weights = (
        int(number) for number in numbers.split()
    )
    shape = BaseShape(
        architecture=architecture,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        head_dim=head,
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        weight_bytes=weights,
    )
    return PublicBase(name, share, max_model_len, shape)


_LLAMA, _QWEN2 = "LlamaForCausalLM", "Qwen2ForCausalLM"

# hidden, inner, layers, heads, key-value heads, head size, vocabulary, positions, weight bytes
PUBLIC_BASES = (
    _base("llama3_8b", 35, 8192, _LLAMA, "4096 14336 32 32 8 128 128256 8192 16060522496"),
    _base("qwen25_7b", 20, 8192, _QWEN2, "3584 18944 28 28 4 128 152064 32768 15231233024"),
    _base(
        "mistral_7b",
        15,
        8192,
        "MistralForCausalLM",
        "4096 14336 32 32 8 128 32768 32768 14496047104",
    ),
    _base(
        "qwen3_8b", 10, 8192, "Qwen3ForCausalLM", "4096 12288 36 32 8 128 151936 40960 16381470720"
    ),
    _base("llama32_1b", 8, 8192, _LLAMA, "2048 8192 16 32 8 64 128256 131072 2471645608"),
    _base("qwen25_14b", 7, 8192, _QWEN2, "5120 13824 48 40 8 128 152064 32768 29540067328"),
    _base("llama3_70b", 5, 4096, _LLAMA, "8192 28672 80 64 8 128 128256 8192 39770000000"),
)
"""Most used first."""
