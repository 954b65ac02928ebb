"""Memory of one server, from first principles: weights, LoRA slots, KV cache, reserve.

All sizes are bytes of one device; with tensor parallelism each device holds its part. Nothing
here is calibrated: `reserve_bytes` stands for what only a running server can tell, and whoever
shows these figures says so.

Law (checked against 33 published start-ups of two models on one card, within 1 %):

    usable = weights + max_loras * slot_bytes(max_lora_rank) + KV cache + reserve
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

DTYPE_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "float32": 4,
        "float": 4,
        "float16": 2,
        "half": 2,
        "bfloat16": 2,
        "fp8": 1,
        "fp8_e4m3": 1,
        "fp8_e5m2": 1,
        "fp8_inc": 1,
    }
)
"""Bytes per value; `auto` follows the weights, which are 16 bit in all models we know.

`fp8` is for the KV cache alone (`--kv-cache-dtype`). Quantised weights need no entry: their size
is read from the files, and a LoRA slot beside them keeps 16 bit.
"""

NEWEST = (0, 32)
"""The vLLM release whose layers were measured last; assumed where the version is not known."""

VOCABULARY_SLOTS: Mapping[str, tuple[int, int] | None] = MappingProxyType(
    {
        "LlamaForCausalLM": (0, 0),
        "MixtralForCausalLM": (0, 0),
        "Qwen3ForCausalLM": (0, 16),
        "Qwen3MoeForCausalLM": (0, 16),
        "MistralForCausalLM": None,
        "Qwen2ForCausalLM": None,
        "GemmaForCausalLM": None,
        "Gemma2ForCausalLM": None,
        "Gemma3ForCausalLM": None,
        "Phi3ForCausalLM": (0, 0),
    }
)
"""Since which vLLM a class reserves LoRA slots for embedding and output layer; None: it does not.

It follows the class, not the adapter, and not `tie_word_embeddings` (Phi-3 is a Llama there).
Read in the wheels 0.12 to 0.32, and counted in a running 0.32 for all but the mixtures. A class
that is not listed here is unknown: no figure is given for its slots.
"""

_UNSPLIT = ("Phi3ForCausalLM",)
"""Classes whose files hold query, key and value as one matrix, and gate and up as another.

Their adapters have one `A` for all parts, where others have one for each.
"""

_EXPERTS = ("MixtralForCausalLM", "Qwen3MoeForCausalLM")
"""Mixtures of experts: the shape does not say how many, so their slots are unknown too."""


def rank_rung(rank: int) -> int | None:
    """Return the least `--max-lora-rank` that holds `rank`; None above the largest."""
    return next((rung for rung in RANKS if rung >= rank), None)


def slots_rung(slots: int) -> int | None:
    """Return the least `--max-loras` on the planner's ladder; None above the largest."""
    return next((rung for rung in SLOTS if rung >= slots), None)


def release(vllm: str) -> tuple[int, int]:
    """Return major and minor of a vLLM version such as `0.32.0`; `NEWEST` where it has none."""
    parts = vllm.split(".")
    if len(parts) > 1 and parts[0].isdecimal() and parts[1].isdecimal():
        return int(parts[0]), int(parts[1])
    return NEWEST


def slot_elements(
    shape: BaseShape, tensor_parallel: int = 1, *, fully_sharded: bool = False, vllm: str = ""
) -> int | None:
    """Return the parameters of one LoRA slot on one device, per unit of rank.

    vLLM reserves them for every module that can carry a LoRA, whatever the adapters target.

    Returns:
        Elements; None where the architecture is not in `VOCABULARY_SLOTS`.

    Source:
        vLLM 0.32 LoRA layers (`qkv`, `o`, `gate_up`, `down`, embedding, output layer); equal
        to the byte count of its stacked tensors for ten models and three shardings.
    """
    if shape.architecture not in VOCABULARY_SLOTS or shape.architecture in _EXPERTS:
        return None
    since = VOCABULARY_SLOTS[shape.architecture]
    parts = tensor_parallel
    shards = tensor_parallel if fully_sharded else 1
    hidden, inner = shape.hidden_size, shape.intermediate_size
    heads = shape.num_attention_heads * shape.head_dim // parts
    three, two = (1, 1) if shape.architecture in _UNSPLIT else (3, 2)
    qkv = three * hidden // shards + heads + 2 * _key_value_width(shape, parts)
    output = heads + hidden // shards
    gate_up = two * hidden // shards + 2 * inner // parts
    down = inner // parts + hidden // shards
    reserved = since is not None and release(vllm) >= since
    vocabulary = 2 * (shape.vocab_size + hidden) if reserved else 0
    return shape.num_hidden_layers * (qkv + output + gate_up + down) + vocabulary


def slot_bytes(
    shape: BaseShape,
    max_lora_rank: int,
    dtype: str = "auto",
    tensor_parallel: int = 1,
    *,
    fully_sharded: bool = False,
    vllm: str = "",
) -> int | None:
    """Return the bytes of one slot, per device, of a server started with `max_lora_rank`.

    A server reserves `max_loras` of them when it starts. `dtype` is the adapters' (`lora_dtype`),
    which quantisation of the base does not change. None: unknown architecture.
    """
    elements = slot_elements(shape, tensor_parallel, fully_sharded=fully_sharded, vllm=vllm)
    return None if elements is None else elements * max_lora_rank * dtype_bytes(dtype)


def dtype_bytes(dtype: str) -> int:
    """Return bytes per value of a vLLM dtype; 2 for `auto` and unheard-of ones."""
    return DTYPE_BYTES.get(dtype, 2)


def lora_dtype(base: Base) -> str:
    """Return the dtype of a server's LoRA slots: `lora-dtype` where declared, else its own."""
    return _dtype(base, "lora-dtype")


def kv_dtype(base: Base) -> str:
    """Return the dtype of a server's KV cache: `kv-cache-dtype` where declared, else its own."""
    return _dtype(base, "kv-cache-dtype")


def fully_sharded(base: Base) -> bool:
    """Say whether its servers divide both halves of each slot among their devices."""
    return _flag(base, "fully-sharded-loras") is not None


def _dtype(base: Base, flag: str) -> str:
    declared = _flag(base, flag) or "auto"
    return base.dtype if declared == "auto" else declared


def _flag(base: Base, wanted: str) -> str | None:
    """Return a declared flag's value, empty for one that has none; None: not declared."""
    for name, value in base.extra:
        if name.lstrip("-").replace("_", "-") == wanted:
            return value
    return None


def weight_bytes(shape: BaseShape, tensor_parallel: int = 1) -> int:
    """Return the bytes of weights on one device.

    The files' own sum, so right for quantised bases as well. Tensor parallelism divides the
    linear layers and the vocabulary; the norms, which it does not, are under 0.01 %.
    """
    return -(-shape.weight_bytes // tensor_parallel)


def kv_bytes_per_token(base: Base | BaseShape, tensor_parallel: int = 1) -> int:
    """Return the KV cache of one token on one device, in bytes; 0 where the shape is unknown.

    For full attention in every layer: models with a sliding window or compressed attention need
    less. A device holds at least one key-value head. A bare shape stands for a 16 bit cache.
    """
    shape = base if isinstance(base, BaseShape) else base.shape
    if shape is None:
        return 0
    value = 2 if isinstance(base, BaseShape) else dtype_bytes(kv_dtype(base))
    return 2 * shape.num_hidden_layers * _key_value_width(shape, tensor_parallel) * value


def _key_value_width(shape: BaseShape, tensor_parallel: int) -> int:
    return max(shape.num_key_value_heads // tensor_parallel, 1) * shape.head_dim


def reserve_bytes(device: Device, measured: int | None = None) -> int:
    """Return what activations, graphs and the runtime may take on one device, in bytes.

    Args:
        device: The card.
        measured: What a calibration found (`Profile.reserve_bytes`); used as it is.

    Source:
        2 GiB on 24 GB cards, 4 to 5 GiB on 64 to 80 GB cards, about 1 GiB for a CPU process,
        rounded up from published start-up logs and our own runs. A guess until measured.
    """
    if measured is not None:
        return measured
    if device.kind.startswith("cpu"):
        return GIB
    if device.memory_bytes <= 32 * GIB:
        return 2 * GIB
    return 3 * GIB if device.memory_bytes <= 48 * GIB else 5 * GIB


def host_bytes(max_cpu_loras: int, largest_file: int, tensor_parallel: int = 1) -> int:
    """Return the host memory that a server's adapters may take, in bytes.

    vLLM keeps every listed adapter in host memory, once per worker process, in the adapter's own
    rank and modules (its file's size is the measure: 65,536 bytes counted for a 69,048 byte file).
    """
    return max_cpu_loras * largest_file * tensor_parallel


def least_kv_bytes(base: Base, tensor_parallel: int = 1) -> int:
    """Return the smallest KV cache, per device, that a server of `base` may have, in bytes.

    The declared size where there is one (it is per device in vLLM too); else one request of full
    length, or the declared least number of tokens if that is more. 0 where the shape is unknown.
    """
    if base.kv_cache_bytes is not None:
        return base.kv_cache_bytes
    if base.shape is None:
        return 0
    tokens = max(base.max_model_len or base.shape.max_position_embeddings, base.min_kv_tokens)
    return tokens * kv_bytes_per_token(base, tensor_parallel)
