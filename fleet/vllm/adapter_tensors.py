"""Checks the tensors of an adapter from the header alone: names, types, shapes, ranks, gaps."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from fleet.errors import Diagnostic, problem
from fleet.hardware import BaseShape
from fleet.vllm.adapter_config import rank_of

DTYPES = {"F16": 2, "BF16": 2, "F32": 4}
"""Tensor types that may hold LoRA weights, with bytes per element."""

MOST = 8
"""Upper bound of the shown problems of a kind; a wrong base would repeat a problem per tensor."""

_TENSOR = re.compile(
    r"base_model\.model\.model\.layers\.(?P<layer>0|[1-9][0-9]{0,4})\."
    r"(?P<block>self_attn|mlp)\.(?P<module>\w+)\.lora_(?P<side>[AB])\.weight",
    re.ASCII,
)
_BLOCKS = dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), "self_attn") | dict.fromkeys(
    ("gate_proj", "up_proj", "down_proj"), "mlp"
)
_EXPECTED = "expected base_model.model.model.layers.<n>.self_attn.q_proj.lora_A.weight"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An entry of a safetensors header; offsets are bytes into the data part."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def module_shapes(base: BaseShape) -> dict[str, tuple[int, int]]:
    """Return `(d_in, d_out)` of the linear modules of a layer of `base`, by module.

    Source:
        The modules of Llama, which Mistral, Qwen2, Qwen3 and Gemma share.
    """
    query = base.num_attention_heads * base.head_dim
    key = base.num_key_value_heads * base.head_dim
    hidden, inner = base.hidden_size, base.intermediate_size
    return {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key),
        "v_proj": (hidden, key),
        "o_proj": (query, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }


def adapted_modules(tensors: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the adapted modules, sorted."""
    matches = map(_TENSOR.fullmatch, tensors)
    return tuple(sorted({match["module"] for match in matches if match}))


def check_tensors(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], size: int, base: BaseShape
) -> Iterator[Diagnostic]:
    """Check the header of `adapter_model.safetensors`, whose data part has `size` bytes.

    The adapter's configuration may be wrong in any way.
    """
    if not tensors:
        yield problem("FC3120", "No tensors", "The file is valid and empty: it is the base.")
        return
    yield from _few(_layout(tensors, size))
    pairs: dict[tuple[str, int], dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in sorted(tensors.items()):
        match = _TENSOR.fullmatch(name)
        if match is None or _BLOCKS.get(match["module"]) != match["block"]:
            unknown.append(name)
        else:
            pairs.setdefault((match["module"], int(match["layer"])), {})[match["side"]] = tensor
    yield from _few(map(_unknown, unknown))
    yield from _few(_pairs(pairs, config, base))
    yield from _completeness(pairs, config, base)


def _few(found: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """Yield the first problems of every code, and the number of further ones."""
    counts: Counter[tuple[str, str]] = Counter()
    for diagnostic in found:
        kind = diagnostic.code, diagnostic.summary
        counts[kind] += 1
        if counts[kind] <= MOST:
            yield diagnostic
    for (code, summary), count in counts.items():
        if count > MOST:
            yield problem(code, summary, f"And {count - MOST} more of this kind.")


def _unknown(name: str) -> Diagnostic:
    shown = name if len(name) <= 120 else f"{name[:117]}…"  # noqa: PLR2004 (a line's worth)
    if "embed_tokens" in name or "lm_head" in name:
        why = "Embedding and output layer are shared by all clients of the base."
    else:
        why = (
            "A server would ignore it or refuse all of it; with a wrong prefix the base answers "
            "in the adapter's name."
        )
    detail = f"`{shown}` is no LoRA tensor of a linear module. {why}"
    return problem("FC3121", "Unknown tensor name", detail, hint=_EXPECTED)


def _layout(tensors: Mapping[str, Tensor], size: int) -> Iterator[Diagnostic]:
    """Yield problems of tensors whose bytes contradict the header."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        width = DTYPES.get(tensor.dtype)
        if width is None:
            detail = f"`{name}` is {tensor.dtype}; one of {', '.join(DTYPES)}."
            yield problem("FC3124", "Type of tensor not served", detail)
        elif tensor.begin != position or tensor.end - tensor.begin != prod(tensor.shape) * width:
            detail = (
                f"`{name}` claims bytes {tensor.begin} to {tensor.end}, which overlap, leave a "
                "gap or do not hold its shape."
            )
            yield problem("FC3125", "Damaged header", detail)
        position = max(position, tensor.end)
    if position != size:
        detail = f"The header speaks of {position} bytes of data, the file has {size}."
        yield problem("FC3126", "File truncated or padded", detail)


def _pairs(
    pairs: Mapping[tuple[str, int], Mapping[str, Tensor]],
    config: Mapping[str, Any],
    base: BaseShape,
) -> Iterator[Diagnostic]:
    """Yield problems of pairs that do not fit the base, or not the configuration."""
    shapes = module_shapes(base)
    for (module, layer), sides in sorted(pairs.items()):
        where = f"`{module}` of layer {layer}"
        if layer >= base.num_hidden_layers:
            detail = f"{where}: the base has {base.num_hidden_layers} layers. Another base?"
            yield problem("FC3122", "More layers than the base", detail)
        elif len(sides) == 1:
            detail = f"{where} has lora_{next(iter(sides))} only."
            yield problem("FC3123", "Half of a pair", detail)
        else:
            path = f"model.layers.{layer}.{_BLOCKS[module]}.{module}"
            a, b = sides["A"], sides["B"]
            yield from _shape(where, a, b, shapes[module], rank_of(config, path))


def _shape(
    where: str, a: Tensor, b: Tensor, expected: tuple[int, int], rank: object
) -> Iterator[Diagnostic]:
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:  # noqa: PLR2004
        detail = f"{where}: A is {a.shape}, B is {b.shape}."
        yield problem("FC3127", "Pair does not fit together", detail)
        return
    if (a.shape[1], b.shape[0]) != expected:
        detail = (
            f"{where} maps {a.shape[1]} to {b.shape[0]}; this base maps {expected[0]} to "
            f"{expected[1]}. A server refuses a larger one, and serves garbage for a smaller one."
        )
        yield problem("FC3128", "Made for another base", detail)
    if a.shape[0] != rank:
        detail = (
            f"{where} has rank {a.shape[0]}, the configuration says {rank}. The scale would be "
            "wrong, or the server refuses it after evicting another."
        )
        yield problem("FC3131", "Rank differs from the configuration", detail)


def _completeness(
    pairs: Mapping[tuple[str, int], Mapping[str, Tensor]],
    config: Mapping[str, Any],
    base: BaseShape,
) -> Iterator[Diagnostic]:
    """Yield problems of modules that only some layers adapt, unless the configuration says so."""
    layers = _layers(config, base)
    adapted = {module for module, _ in pairs}
    for module in sorted(adapted):
        missing = sorted(layers - {layer for other, layer in pairs if other == module})
        if missing:
            shown = ", ".join(map(str, missing[:MOST])) + (", …" if missing[MOST:] else "")
            detail = (
                f"`{module}` has no tensors in layers {shown} of {base.num_hidden_layers}. "
                "A server accepts that and serves the rest."
            )
            yield problem("FC3129", "Layers missing", detail)
    declared = config.get("target_modules")
    if isinstance(declared, list):  # and no pattern
        for name in sorted({module for module in declared if isinstance(module, str)}):
            if name.rpartition(".")[2] not in adapted:
                detail = f"`target_modules` names `{name}`, and the file holds nothing for it."
                yield problem("FC3130", "Declared module has no tensors", detail)


def _layers(config: Mapping[str, Any], base: BaseShape) -> set[int]:
    """Return the layers that should be adapted: all, unless the configuration chooses."""
    match config.get("layers_to_transform"):
        case bool() | None:
            return set(range(base.num_hidden_layers))
        case int(only):
            return {only}
        case list(layers):
            return {layer for layer in layers if type(layer) is int}
        case _:
            return set()
