"""Memory of one server, from first principles: weights, LoRA slots, KV cache, reserve.

All sizes are bytes. Nothing here is calibrated: `RESERVE` stands for what only a running
server can tell, and whoever shows these figures says so.
"""

from collections.abc import Mapping
from types import MappingProxyType

from fleet.declared import Base, BaseShape, Device

GIB = 1 << 30

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM 0.32 takes for `--max-lora-rank`."""

SLOTS = (4, 8, 16, 32, 64, 128)
"""Values that the planner chooses for `--max-loras`."""

USABLE = 0.92
"""Part of a device's memory that servers may take in all; vLLM's own default."""

DTYPE_BYTES: Mapping[str, int] = MappingProxyType({"float32": 4, "float16": 2, "bfloat16": 2})
"""Bytes per value; `auto` follows the weights, which are 16 bit in all models we know."""

VOCABULARY_SLOTS: Mapping[str, bool] = MappingProxyType(
    {
        "LlamaForCausalLM": True,
        "MixtralForCausalLM": True,
        "Qwen3ForCausalLM": True,
        "Qwen3MoeForCausalLM": True,
        "MistralForCausalLM": False,
        "Qwen2ForCausalLM": False,
        "GemmaForCausalLM": False,
        "Gemma2ForCausalLM": False,
        "Gemma3ForCausalLM": False,
        "Phi3ForCausalLM": False,
    }
)
"""Whether vLLM's model class reserves LoRA slots for the embedding and the output layer.

It follows the class, not the adapter, and not `tie_word_embeddings`. As of vLLM 0.32 (Qwen3
since 0.16). A class that is not listed here is unknown: no figure is given for its slots.
"""

_EXPERTS = ("MixtralForCausalLM", "Qwen3MoeForCausalLM")
"""Mixtures of experts: the shape does not say how many, so their slots are unknown too."""


def rank_rung(rank: int) -> int | None:
    """Return the least `--max-lora-rank` that holds `rank`; None above the largest."""
    return next((rung for rung in RANKS if rung >= rank), None)


def slots_rung(slots: int) -> int | None:
    """Return the least `--max-loras` on the planner's ladder; None above the largest."""
    return next((rung for rung in SLOTS if rung >= slots), None)


def slot_elements(
    shape: BaseShape, tensor_parallel: int = 1, *, fully_sharded: bool = False
) -> int | None:
    """Return the parameters of one LoRA slot on one device, per unit of rank.

    vLLM reserves them for every module that can carry a LoRA, whatever the adapters target.

    Returns:
        Elements; None where the architecture is not in `VOCABULARY_SLOTS`.

    Source:
        vLLM 0.32 LoRA layers (`qkv`, `o`, `gate_up`, `down`, embedding, output layer); equal
        to the byte count of its stacked tensors for eight models and three shardings.
    """
    with_vocabulary = VOCABULARY_SLOTS.get(shape.architecture)
    if with_vocabulary is None or shape.architecture in _EXPERTS:
        return None
    parts = tensor_parallel
    shards = tensor_parallel if fully_sharded else 1
    hidden, inner = shape.hidden_size, shape.intermediate_size
    heads = shape.num_attention_heads * shape.head_dim // parts
    key_values = max(shape.num_key_value_heads // parts, 1) * shape.head_dim
    qkv = 3 * hidden // shards + heads + 2 * key_values
    output = heads + hidden // shards
    gate_up = 2 * hidden // shards + 2 * inner // parts
    down = inner // parts + hidden // shards
    vocabulary = 2 * (shape.vocab_size + hidden) if with_vocabulary else 0
    return shape.num_hidden_layers * (qkv + output + gate_up + down) + vocabulary


def slot_bytes(shape: BaseShape, max_lora_rank: int, dtype: str = "auto") -> int | None:
    """Return the bytes of one slot of a server started with `max_lora_rank`.

    A server reserves `max_loras` of them when it starts. None: unknown architecture.
    """
    elements = slot_elements(shape)
    return None if elements is None else elements * max_lora_rank * dtype_bytes(dtype)


def dtype_bytes(dtype: str) -> int:
    """Return bytes per value of a vLLM dtype; 2 for `auto` and unheard-of ones."""
    return DTYPE_BYTES.get(dtype, 2)


def kv_bytes_per_token(shape: BaseShape, dtype: str = "auto") -> int:
    """Return the KV cache of one token, in bytes, for full attention in every layer.

    Models with a sliding window or compressed attention need less.
    """
    per_layer = 2 * shape.num_key_value_heads * shape.head_dim * dtype_bytes(dtype)
    return shape.num_hidden_layers * per_layer


def reserve_bytes(device: Device) -> int:
    """Return what activations, graphs and the runtime may take, in bytes. Uncalibrated.

    Source:
        2 GiB on 24 GB cards, 4 to 5 GiB on 64 to 80 GB cards, about 1 GiB for a CPU process,
        rounded up from published start-up logs and our own runs. A guess until measured.
    """
    if device.kind.startswith("cpu"):
        return GIB
    if device.memory_bytes <= 32 * GIB:
        return 2 * GIB
    return 3 * GIB if device.memory_bytes <= 48 * GIB else 5 * GIB


def least_kv_bytes(base: Base) -> int:
    """Return the smallest KV cache a server of `base` may have, in bytes.

    The declared size where there is one; else one request of full length, or the declared
    least number of tokens if that is more. 0 where the shape is unknown.
    """
    if base.kv_cache_bytes is not None:
        return base.kv_cache_bytes
    if base.shape is None:
        return 0
    tokens = max(base.max_model_len or base.shape.max_position_embeddings, base.min_kv_tokens)
    return tokens * kv_bytes_per_token(base.shape, base.dtype)
