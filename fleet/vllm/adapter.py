"""Checks the tensors of an adapter from the header alone: names, types, shapes, ranks, gaps."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

from fleet.errors import Diagnostic, problem
from fleet.hardware import BaseShape
from fleet.vllm.lora_slots import RANKS

PLAIN_STARTS = {"gaussian", "orthogonal", "eva", "mica", "lora_ga"}
"""Values of `init_lora_weights` that leave the base unchanged. Source: vLLM 0.32, PEFTHelper."""

MAX_SCALE = 1e6
"""Upper bound of a `lora_alpha` that is no mistake."""

UNSERVED = {
    "use_dora": "DoRA: merge it into a base of its own, or retrain as plain LoRA.",
    "use_qalora": "QALoRA: retrain as plain LoRA.",
    "use_bdlora": "Block-diagonal LoRA: retrain as plain LoRA.",
    "alora_invocation_tokens": "Activated LoRA: retrain without it.",
    "layer_replication": "Replicated layers: retrain without them.",
    "target_parameters": "Adapted parameters: retrain with `target_modules` alone.",
    "trainable_token_indices": "Trained tokens would change the embedding all clients share.",
}
"""Kinds of LoRA that vLLM 0.32 refuses or ignores, by their key in the configuration."""

_KEY = re.compile(r"[\w.]+")


def check_config(config: Mapping[str, Any], *bases: str) -> Iterator[Diagnostic]:
    """Check an `adapter_config.json`, any JSON object, for a base with all its names and paths."""
    kind = config.get("peft_type")
    if kind != "LORA":
        detail = f"`peft_type` is {_shown(kind)}. vLLM would load it as LoRA all the same."
        yield problem("FC3101", "Not a LoRA adapter", detail)
    rank = config.get("r")
    if not _is_rank(rank):
        detail = f"`r` is {_shown(rank)}; it must be 1 or more."
        yield problem("FC3102", "Rank missing or not a number", detail)
    elif rank > RANKS[-1]:
        detail = f"`r` is {rank}, and vLLM serves at most {RANKS[-1]}."
        yield problem("FC3103", "Rank above what vLLM serves", detail)
    if not _is_scale(config.get("lora_alpha")):
        detail = f"`lora_alpha` is {_shown(config.get('lora_alpha'))}; it must be above 0."
        yield problem("FC3104", "Scale missing or not a number", detail)
    yield from _unserved(config)
    yield from _patterns(config)
    yield from _targets(config)
    yield from _other_base(config, bases)


def served_rank(config: Mapping[str, Any]) -> int:
    """Return the rank that a server's slots must have, of a configuration without errors.

    The largest rank in the configuration, by which a server refuses, not that of the tensors.
    """
    ranks: list[int] = [config["r"], *pattern(config, "rank_pattern").values()]
    return max(ranks)


def pattern(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return `rank_pattern` or `alpha_pattern`; empty where missing or malformed."""
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def rank_of(config: Mapping[str, Any], module: str) -> Any:
    """Return the rank, or any other `r`, of a module such as `model.layers.0.self_attn.q_proj`.

    Source:
        PEFT and vLLM 0.32: a key of `rank_pattern` is a suffix that begins at a dot; the
        first that fits counts.
    """
    for key, rank in pattern(config, "rank_pattern").items():
        if f".{module}".endswith(f".{key}"):
            return rank
    return config.get("r")


def _is_rank(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 1


def _is_scale(value: Any) -> bool:
    return type(value) in {int, float} and 0 < value < MAX_SCALE


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 (a line's worth)


def _unserved(config: Mapping[str, Any]) -> Iterator[Diagnostic]:
    for key, remedy in UNSERVED.items():
        if config.get(key):
            yield problem("FC3105", "Kind of LoRA not served", f"`{key}` is set. {remedy}")
    if config.get("modules_to_save"):
        detail = (
            f"`modules_to_save` is {_shown(config['modules_to_save'])}. A shared base has no "
            "place for them: they are refused or silently dropped."
        )
        yield problem("FC3106", "Fully trained modules are not served", detail)
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        detail = "Train with `bias: none` and without `lora_bias`."
        yield problem("FC3107", "Biases are not served", detail)
    start = config.get("init_lora_weights", True)
    plain = start.lower() in PLAIN_STARTS if isinstance(start, str) else isinstance(start, bool)
    if not plain:
        detail = (
            f"`init_lora_weights` is {_shown(start)}: such a start moves part of the base into "
            "the adapter, and the shared base still has it. Convert the adapter when saving."
        )
        yield problem("FC3108", "Initialisation changes the base", detail)


def _patterns(config: Mapping[str, Any]) -> Iterator[Diagnostic]:
    for key, fits in (("rank_pattern", _is_rank), ("alpha_pattern", _is_scale)):
        given = config.get(key)
        if not given:
            continue
        if not isinstance(given, dict):
            yield problem("FC3109", "Pattern not understood", f"`{key}` is {_shown(given)}.")
            continue
        for name, value in given.items():
            if _KEY.fullmatch(name) is None:
                detail = f"`{key}` names `{name}`; only plain module names can be checked."
            elif not fits(value) or (key == "rank_pattern" and value > RANKS[-1]):
                detail = f"`{key}` gives `{name}` {_shown(value)}."
            else:
                continue
            yield problem("FC3109", "Pattern not understood", detail)
        detail = (
            f"`{key}` gives modules their own values. vLLM 0.32 keeps to that; an older server "
            "may scale them wrongly without a word."
        )
        yield Diagnostic("FC3134", "Values differ by module", detail, severity="warning")


def _targets(config: Mapping[str, Any]) -> Iterator[Diagnostic]:
    targets = config.get("target_modules")
    names = isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    if not targets or not (names or isinstance(targets, str)):
        detail = f"`target_modules` is {_shown(targets)}; a server needs a list of names."
        yield problem("FC3116", "Target modules missing", detail)
    layers = config.get("layers_to_transform")
    listed = isinstance(layers, list) and all(type(layer) is int for layer in layers)
    if layers is not None and type(layers) is not int and not listed:
        detail = f"`layers_to_transform` is {_shown(layers)}; it is a list of numbers."
        yield problem("FC3117", "Layers not understood", detail)


def _other_base(config: Mapping[str, Any], bases: tuple[str, ...]) -> Iterator[Diagnostic]:
    named = config.get("base_model_name_or_path")
    known = {_plain(base) for base in bases}
    if isinstance(named, str) and _plain(named) and _plain(named) not in known:
        yield Diagnostic(
            "FC3110",
            "Adapter names another base",
            f"It was trained on `{_last(named)}` and is for `{bases[0]}`. Its shapes fit; whether "
            "its weights do, only an evaluation tells.",
            hint=f"If both are the same base, list `{_last(named)}` in `known_as` of `{bases[0]}`; "
            "without that, no server loads it.",
            severity="warning",
        )


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _plain(path: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _last(path).lower())


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
