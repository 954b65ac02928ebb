"""Computes the memory of a server from first principles: weights, LoRA slots, KV cache, reserve.

All sizes are bytes of a single device; with tensor parallelism a device holds its part. No figure
here is calibrated: `reserve_bytes` stands for the part that only a running server can tell, and a
command that shows these figures says so.

    usable = weights + LoRA slots (`fleet.vllm.lora_slots`) + KV cache + reserve
"""

from fleet.hardware import BaseShape, BaseSpec, DeviceSpec, is_cpu
from fleet.vllm.lora_slots import dtype_bytes, key_value_width

GIB = 1 << 30

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM 0.32 takes for `--max-lora-rank`."""

SLOTS = (4, 8, 16, 32, 64, 128)
"""Values that the planner chooses for `--max-loras`."""

USABLE = 0.92
"""Part of a device's memory that servers may take in all; vLLM's own default."""


def rank_bucket(rank: int) -> int | None:
    """Return the least `--max-lora-rank` that holds `rank`; None above the largest."""
    return next((value for value in RANKS if value >= rank), None)


def slots_bucket(slots: int) -> int | None:
    """Return the least `--max-loras` of the planner that holds `slots`; None above the largest."""
    return next((value for value in SLOTS if value >= slots), None)


def lora_dtype(base: BaseSpec) -> str:
    """Return the dtype of a server's LoRA slots: `lora-dtype` where declared, else the base's."""
    return _dtype(base, "lora-dtype")


def kv_dtype(base: BaseSpec) -> str:
    """Return the dtype of a server's KV cache: `kv-cache-dtype` where declared, else the base's."""
    return _dtype(base, "kv-cache-dtype")


def fully_sharded(base: BaseSpec) -> bool:
    """Say whether a base's servers divide both halves of every slot among their devices."""
    return _flag(base, "fully-sharded-loras") is not None


def _dtype(base: BaseSpec, flag: str) -> str:
    declared = _flag(base, flag) or "auto"
    return base.dtype if declared == "auto" else declared


def _flag(base: BaseSpec, flag: str) -> str | None:
    """Return a declared flag's value; empty: a bare switch; None: not declared."""
    found = (value for name, value in base.extra if name.lstrip("-").replace("_", "-") == flag)
    return next(found, None)


def weight_bytes(shape: BaseShape, tensor_parallel: int = 1) -> int:
    """Return the bytes of weights on a device.

    The files' own sum, so right for quantised bases as well. Tensor parallelism divides the
    linear layers and the vocabulary, and not the norms, which are under 0.01 %.
    """
    return -(-shape.weight_bytes // tensor_parallel)


def kv_bytes_per_token(base: BaseSpec | BaseShape, tensor_parallel: int = 1) -> int:
    """Return the KV cache of a token on a device, in bytes; 0 where the shape is unknown.

    For full attention in every layer, so an upper bound for layers with a sliding window; MLA keeps
    its latent vector alone. A device holds at least one key-value head. A bare shape stands for a
    16 bit cache.
    """
    shape = base if isinstance(base, BaseShape) else base.shape
    if shape is None:
        return 0
    if isinstance(base, BaseSpec) and base.kv_bytes_per_token:
        return base.kv_bytes_per_token
    value = 2 if isinstance(base, BaseShape) else dtype_bytes(kv_dtype(base))
    if shape.latent_width:  # every device keeps all of it
        return shape.num_hidden_layers * shape.latent_width * value
    return 2 * shape.num_hidden_layers * key_value_width(shape, tensor_parallel) * value


def reserve_bytes(device: DeviceSpec, measured: int | None = None) -> int:
    """Return the bytes of a device that activations, graphs and the runtime may take.

    The figure of a calibration (`Profile.reserve_bytes`) is returned as given.

    Source:
        2 GiB on 24 GB cards, 4 to 5 GiB on 64 to 80 GB cards, about 1 GiB for a CPU process,
        rounded up from published start-up logs and our own runs. A guess until measured.
    """
    if measured is not None:
        return measured
    if is_cpu(device.kind):
        return GIB
    if device.memory_bytes <= 32 * GIB:
        return 2 * GIB
    return 3 * GIB if device.memory_bytes <= 48 * GIB else 5 * GIB


def host_bytes(max_cpu_loras: int, largest_file: int, tensor_parallel: int = 1) -> int:
    """Return the host memory that a server's adapters may take, in bytes.

    vLLM keeps every listed adapter in host memory, once per worker process, in the adapter's own
    rank and modules. The file's size is the measure: 65,536 bytes counted for a 69,048 byte file.
    """
    return max_cpu_loras * largest_file * tensor_parallel


def least_kv_bytes(base: BaseSpec, tensor_parallel: int = 1) -> int:
    """Return the smallest KV cache, per device, that a server of `base` may have, in bytes.

    The declared size, which is per device in vLLM too; else a request of full length, or the
    declared least number of tokens where that is more. 0 where the shape is unknown.
    """
    if base.kv_cache_bytes is not None:
        return base.kv_cache_bytes
    if base.shape is None:
        return 0
    tokens = max(base.max_model_len or base.shape.max_position_embeddings, base.min_kv_tokens)
    return tokens * kv_bytes_per_token(base, tensor_parallel)
