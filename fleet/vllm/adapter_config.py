"""Checks an adapter's configuration for settings that a multi-LoRA server refuses or ignores.

vLLM answers 200 to many adapters that it then serves as the base, in part, or with NaN that leaks
into other clients' answers. A load that vLLM refuses can still evict a good adapter. So this module
and `adapter_tensors` decide from the headers of the two files, before a server is asked.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from fleet.errors import Diagnostic, problem
from fleet.vllm.memory import RANKS

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
