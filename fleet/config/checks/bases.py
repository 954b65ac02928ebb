"""Checks bases: weights, flags, and whether a base can be divided among devices."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from fleet.config.checks import ProjectFacts
from fleet.config.checks.machines import STARTING
from fleet.config.files.lockfile import LOCK_FILE
from fleet.config.files.merge import Path
from fleet.config.files.validate import Problem
from fleet.config.schema.fleet import Declarations
from fleet.hardware import BaseShape
from fleet.vllm import RELEASE, fault_of, release, spelling_hint

_LEEWAY = 0.05
"""Part of the weights by which a computed size may miss: image encoders, and what files add."""

_HINTS = 50
"""Upper bound of the hints on misspelt flags; a hint takes milliseconds."""


def check_bases(given: Declarations, facts: ProjectFacts) -> Iterator[Problem]:
    """Check bases, and their flags by the hosts that may start servers of them."""
    starting = sorted(name for name, host in given.hosts.items() if host.engine in STARTING)
    allowing: dict[frozenset[str] | None, list[str]] = {}
    for host in starting:
        allowing.setdefault(frozenset(facts.code.get(host, ())), []).append(host)
    hints = iter(range(_HINTS))
    for name, base in given.bases.items():
        for flag, value in base.flags.items():
            found = _flag(("bases", name, "flags", flag), flag, value, allowing or {None: [""]})
            if found and not found.hint and next(hints, None) is not None:
                found = replace(found, hint=spelling_hint(flag))
            yield from filter(None, [found])
        yield from _weights(("bases", name, "model"), facts, base.weight_bytes)
        shape, width = facts.shape(name), base.tensor_parallel or 1
        most, length = shape.max_position_embeddings if shape else 0, base.max_model_len or 0
        if 0 < most < length:
            detail = (
                f"`{name}` has {most} positions by its config.json. A server of it does not start "
                f"with {length}, unless that file scales them (`rope_scaling`)."
            )
            path, hint = ("bases", name, "max_model_len"), f"Write at most {most}."
            yield Problem("FC1256", path, detail, hint=hint, severity="warning")
        if shape and not splits(shape, width):
            fitting = [parts for parts in range(1, 65) if splits(shape, parts)]
            detail = (
                f"The {shape.num_attention_heads} attention heads, {shape.num_key_value_heads} key "
                f"heads and the inner size of {shape.intermediate_size} of `{name}` cannot be "
                f"divided among {width} devices."
            )
            hint = f"Choose one of {', '.join(map(str, fitting))}."
            yield Problem("FC1220", ("bases", name, "tensor_parallel"), detail, hint=hint)
    if any(base.flags for base in given.bases.values()):
        yield from _other_releases(given, starting)


def _weights(path: Path, facts: ProjectFacts, declared: int | None) -> Iterator[Problem]:
    """Check the weights that the lock has of a base with those of its files or config.json."""
    name = str(path[1])
    here, locked = facts.shapes.get(name), facts.lock.bases.get(name)
    if here and not (declared or locked or here.weight_bytes):
        detail = f"Nothing tells the weights of `{name}`: its files are not here, and its "
        detail += "`quantization_config` is of an unknown kind."
        hint = "Declare `weight_bytes`, or bring `model.safetensors.index.json` to its folder."
        yield Problem("FC1239", path, detail, hint=hint)
    computed, pinned = here.weight_bytes if here else 0, locked.weight_bytes if locked else 0
    if (
        locked
        and not declared
        and not math.isclose(computed or pinned, pinned or -1, rel_tol=_LEEWAY)
    ):
        detail = f"`{LOCK_FILE}` has {pinned:,} bytes of weights of `{name}`"
        detail += f", and by the files here the base has {computed:,}." if computed else "."
        detail += " The memory of servers is computed with them."
        hint = f"Delete its line under `bases` in `{LOCK_FILE}`: the next `adapter add` writes it."
        yield Problem("FC1238", path, detail, hint=hint)


def as_flag(name: str, value: str | float | bool) -> tuple[str, str]:  # noqa: FBT001 (a YAML value)
    """Return a declared flag in the form of servers: `name`, or `no-name` for a switch."""
    if isinstance(value, bool):
        return (name if value else f"no-{name}"), ""
    return name, str(value)


def _other_releases(given: Declarations, starting: Sequence[str]) -> Iterator[Problem]:
    """Yield a warning for hosts of a release of vLLM whose flags are not known."""
    for name in starting:
        declared = given.hosts[name].vllm
        if declared and release(declared) != RELEASE:
            known = ".".join(map(str, RELEASE))
            detail = (
                f"`{name}` declares vLLM {declared}, and flags are checked with the list of "
                f"{known}: what that release reads otherwise is not noticed."
            )
            hint = f"Try a server of it by hand first, or install vLLM {known}."
            path: Path = ("hosts", name, "vllm")
            yield Problem("FC1333", path, detail, hint=hint, severity="warning")


def _flag(
    path: Path,
    flag: str,
    value: str | float | bool,  # noqa: FBT001 (a YAML value)
    allowing: Mapping[frozenset[str] | None, Sequence[str]],
) -> Problem | None:
    """Check a flag of a base; a server of the base may be placed on every host that starts any.

    `allowing` has the hosts by the flags that the operator allows there.
    """
    if flag.startswith("no-"):
        detail, meant = f"`{flag}` is the opposite of a flag, and no name.", flag[3:]
        return Problem("FC1330", path, detail, hint=f"Write `{meant}: false`.", at="key")
    name, text = as_flag(flag, value)
    faults = {allowed: fault_of(name, text, allowed) for allowed in allowing}
    hosts = [host for allowed, fault in faults.items() if fault for host in allowing[allowed]]
    fault = next(filter(None, faults.values()), None)
    if fault is None:
        return None
    guarded = fault.code == "FC1332"
    where = f" on {', '.join(f'`{host}`' for host in hosts[:8])}" if guarded else ""
    detail = f"`{flag}` is not free to choose{where}: {fault.detail}."
    command = f"fleetctl trust add --code {flag} --host {hosts[0]}" if guarded else ""
    at: Literal["key", "value"] = "value" if fault.code == "FC1331" else "key"
    return Problem(fault.code, path, detail, hint=fault.hint, command=command, at=at)


def splits(shape: BaseShape, width: int) -> bool:
    """Say whether a base can be divided among `width` devices.

    A device gets whole attention heads and an equal part of the inner layer. With fewer key and
    value heads than devices, a head is kept on several devices, and the devices must be a multiple
    of the heads.
    """
    few, many = sorted((shape.num_key_value_heads, width))
    return (
        shape.num_attention_heads % width == 0
        and shape.intermediate_size % width == 0
        and (few == 0 or many % few == 0)
    )
