"""Predicts the memory that a starting server reserves for LoRA slots on a device.

Table keyed by architecture and vLLM release; per module, the shapes of its stacked tensors.

Law of a device, checked against 84 published start-ups of two models on one H100 of 64 GB:

    usable = weights + taken(max_loras * slots of max_lora_rank) + KV cache + reserve

The bytes of the tensors alone are up to 1.35 % under the figure that a server prints for weights
and slots, and the KV cache that they leave up to 9 % (0.4 GiB) off. The allocator takes all of that
(`taken`): with `taken`, both are within 0.02 % and 0.11 %, at every size of the cache. The reserve
depends on a model and its settings, and not on the slots. Only a running server can tell the
reserve; a measured reserve holds for any other number of slots and rank.

Law of PyTorch's caching allocator, for the bytes that a list of tensors takes (within 0.11 % of the
KV cache of all 73 published start-ups that print one):

    taken = segments that the tensors are cut from, in the order in which they are made

Source:
    PyTorch's `c10/cuda/CUDACachingAllocator`, without `expandable_segments` (vLLM's default):
    512 byte units; up to 1 MiB from segments of 2 MiB; under 10 MiB from segments of 20 MiB; above
    from a segment of its own, in steps of 2 MiB. The smallest free block that fits is cut, unless
    the rest would be too small; a segment stays while a tensor is in it.
"""

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from fleet.hardware import BaseShape, BaseSpec, DeviceSpec, is_cpu

_MIB = 1 << 20
_UNIT = 512
_SMALL = _MIB
"""Largest tensor of the small pool."""
_SMALL_SEGMENT = 2 * _MIB
_LARGE = 10 * _MIB
"""Least tensor that has a segment of its own."""
_LARGE_SEGMENT = 20 * _MIB
_STEP = 2 * _MIB


@dataclass(frozen=True, slots=True)
class Taken:
    """Bytes that tensors take of a device."""

    allocated: int
    """Bytes of the blocks that hold tensors, as `torch.cuda.memory_allocated` tells."""
    reserved: int
    """Bytes of the segments of these blocks, which no other process can have."""


def taken(sizes: Iterable[int]) -> Taken:
    """Return the bytes that tensors take of an empty device.

    `sizes` are their bytes, in the order in which the tensors are made; all of them stay.
    """
    free: tuple[list[int], list[int]] = ([], [])
    allocated = reserved = 0
    for size in sizes:
        needed = max(-(-size // _UNIT) * _UNIT, _UNIT)
        small = needed <= _SMALL
        blocks = free[small]
        at = bisect_left(blocks, needed)
        if at < len(blocks):
            block = blocks.pop(at)
        else:
            block = _segment(needed)
            reserved += block
        rest = block - needed
        if rest >= _UNIT if small else rest > _SMALL:
            insort(blocks, rest)
            block = needed
        allocated += block
    return Taken(allocated, reserved)


def _segment(needed: int) -> int:
    if needed <= _SMALL:
        return _SMALL_SEGMENT
    return _LARGE_SEGMENT if needed < _LARGE else -(-needed // _STEP) * _STEP


DTYPE_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("float32", "float"), 4),
    **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"), 1),
}
"""Bytes per value of a dtype that has not 16 bit; `auto` follows the weights, which have 16 bit in
all models we know.

`fp8` is for the KV cache alone (`--kv-cache-dtype`). Quantised weights need no entry: their size
is read from the files, and a LoRA slot beside them keeps 16 bit.
"""

OLDEST, NEWEST = (0, 12), (0, 32)
"""The vLLM releases between which the layers are known; an unknown release counts as the newest."""

EXTRA_VOCABULARY = 256
"""Tokens that adapters could add (`lora_extra_vocab_size`) before `OLDEST`, where a class has
slots for its vocabulary: three more matrices of them beside each slot, whatever its rank."""

VOCABULARY_SLOTS: Mapping[str, tuple[int, int] | None] = {
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
    "GptOssForCausalLM": None,
}
"""The vLLM release since which a class reserves LoRA slots for embedding and output layer.

None: never. The class decides, not the adapter, and not `tie_word_embeddings` (Phi-3 is a Llama
there). Read in the wheels 0.12 to 0.32, and counted in a running 0.32 for all but the mixtures.
The slots of a class outside the table are unknown.
"""

_UNSPLIT = ("Phi3ForCausalLM",)
"""Classes whose files join query, key and value to a matrix, and gate and up to another.

Their adapters have a common `A` for the joined matrices, where others have an `A` per matrix.
"""

_EXPERTS = ("MixtralForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM")
"""Mixtures of experts. All experts of all sparse layers have slots, and so have the routers."""

_JOINED_EXPERTS = ("GptOssForCausalLM",)
"""Mixtures whose files join gate and up of an expert, which have a common `A`."""

_WRAPPER, _TEXT_MODEL = "ForConditionalGeneration", "ForCausalLM"


def _text_class(shape: BaseShape) -> str:
    """Return the class of the text model, without its wrapper for images."""
    return shape.architecture.removesuffix(_WRAPPER) + (
        _TEXT_MODEL if shape.architecture.endswith(_WRAPPER) else ""
    )


def unchecked(shape: BaseShape) -> str:
    """Return the doubt about a class whose slots no running vLLM was asked for; empty: none."""
    if not shape.architecture.endswith(_WRAPPER):
        return ""
    return f"slots of {shape.architecture} from first principles, unchecked"


def release(vllm: str) -> tuple[int, int]:
    """Return major and minor of a vLLM version such as `0.32.0`; `NEWEST` without a release."""
    return _numbers(vllm) or NEWEST


def assumption(vllm: str) -> str:
    """Return the assumption about a vLLM version's layers; empty where they are known."""
    numbers = _numbers(vllm)
    if numbers is None:
        return f"the layers of vLLM {_shown(NEWEST)} assumed"
    if OLDEST <= numbers <= NEWEST:
        return ""
    age = f"newer than {_shown(NEWEST)}" if numbers > NEWEST else f"older than {_shown(OLDEST)}"
    return f"vLLM {vllm} is {age}, whose layers are known"


def _numbers(vllm: str) -> tuple[int, int] | None:
    """Read a version; a development build, `0.1.dev6216+g1125ba0`, has no release."""
    match = re.match(r"([0-9]{1,9})\.([0-9]{1,9})(?![^.])(?!\.dev)", vllm)
    return (int(match[1]), int(match[2])) if match else None


def _shown(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))


def slot_tensors(
    shape: BaseShape, tensor_parallel: int = 1, *, fully_sharded: bool = False, vllm: str = ""
) -> tuple[int, ...]:
    """Return the parameters of the tensors of a LoRA slot on a device, per unit of rank.

    In the order in which vLLM makes them, for every module that can carry a LoRA, also modules
    that no adapter targets. Empty where the architecture is not in `VOCABULARY_SLOTS`.

    Source:
        vLLM 0.32 LoRA layers (`qkv`, `o`, `gate_up`, `down`, embedding, output layer); their sum
        is equal to the byte count of its stacked tensors for ten models and three shardings.
    """
    name = _text_class(shape)
    if name not in VOCABULARY_SLOTS or (name in _EXPERTS) is not bool(shape.experts):
        return ()
    since = VOCABULARY_SLOTS[name]
    part = shape.hidden_size // (tensor_parallel if fully_sharded else 1)
    inner = shape.intermediate_size // tensor_parallel
    heads = shape.num_attention_heads * shape.head_dim // tensor_parallel
    width = key_value_width(shape, tensor_parallel)
    unsplit = name in _UNSPLIT
    qkv = (part, heads + 2 * width) if unsplit else (part, part, part, heads, width, width)
    gate_up = (part, 2 * inner) if unsplit else (part, part, inner, inner)
    dense, attention = shape.num_hidden_layers - shape.sparse_layers, (*qkv, heads, part)
    layers = (*attention, *gate_up, inner, part) * dense
    layers += (*attention, *_experts(shape, part, tensor_parallel)) * shape.sparse_layers
    if since is None or release(vllm) < since:
        return layers
    return (shape.vocab_size, shape.hidden_size, *layers, shape.hidden_size, shape.vocab_size)


def _experts(shape: BaseShape, hidden: int, tensor_parallel: int) -> tuple[int, ...]:
    """Return the tensors of a layer's router and experts, per unit of rank."""
    width, inner = shape.experts * hidden, shape.experts * (shape.expert_size // tensor_parallel)
    joined = _text_class(shape) in _JOINED_EXPERTS
    gate_up = (width, 2 * inner) if joined else (width, width, inner, inner)
    return (hidden, shape.experts, *gate_up, inner, width)


def slot_bytes(
    shape: BaseShape,
    max_lora_rank: int,
    dtype: str = "auto",
    tensor_parallel: int = 1,
    *,
    fully_sharded: bool = False,
    vllm: str = "",
) -> int | None:
    """Return the bytes of a slot's tensors, per device, of a server of `max_lora_rank`.

    A starting server reserves `max_loras` slots. `dtype` is the adapters' (`lora_dtype`), which
    quantisation of the base does not change. None: unknown architecture.
    """
    tensors = slot_tensors(shape, tensor_parallel, fully_sharded=fully_sharded, vllm=vllm)
    if not tensors:
        return None
    return (sum(tensors) * max_lora_rank + sum(_extra(shape, vllm))) * dtype_bytes(dtype)


@lru_cache(maxsize=4096)
def pool_bytes(
    shape: BaseShape,
    max_loras: int,
    max_lora_rank: int,
    dtype: str = "auto",
    tensor_parallel: int = 1,
    *,
    fully_sharded: bool = False,
    vllm: str = "",
) -> int | None:
    """Return the bytes of all slots on a device: the segments that hold their tensors.

    Up to 9 % more than the tensors (`slot_bytes`), where sizes fit badly. None: unknown
    architecture.
    """
    tensors = slot_tensors(shape, tensor_parallel, fully_sharded=fully_sharded, vllm=vllm)
    if not tensors:
        return None
    unit = max_loras * dtype_bytes(dtype)
    sizes = [tensor * max_lora_rank * unit for tensor in tensors]
    return taken([*sizes, *(extra * unit for extra in _extra(shape, vllm))]).reserved


def _extra(shape: BaseShape, vllm: str) -> tuple[int, ...]:
    since = VOCABULARY_SLOTS[_text_class(shape)]
    if since is None or not since <= release(vllm) < OLDEST:
        return ()
    return (EXTRA_VOCABULARY * shape.hidden_size,) * 3


def key_value_width(shape: BaseShape, tensor_parallel: int) -> int:
    """Return the values of a token's keys on a device, which holds at least 1 head."""
    return max(shape.num_key_value_heads // tensor_parallel, 1) * shape.head_dim


def dtype_bytes(dtype: str) -> int:
    """Return bytes per value of a vLLM dtype; 2 for `auto` and unknown ones."""
    return DTYPE_BYTES.get(dtype, 2)


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
