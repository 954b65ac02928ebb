"""Infeasible: errors for what does not fit: the constraint that binds, in numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleet.errors import Diagnostic, Position
from fleet.names import alias_of
from fleet.placement.causes import Limit, PlacementCause
from fleet.placement.items import Item
from fleet.placement.state import PlacementState
from fleet.placement.unplaced import causes_of
from fleet.spec import FleetSpec

COMMAND = "fleetctl diagnose"
"""Tries what would help, and prints what does."""
SHOWN = 3
"""Upper bound of the versions that an error names."""


@dataclass(frozen=True, slots=True)
class _ErrorText:
    """The text of one error; `_facts` has the words in braces."""

    code: str
    summary: str
    detail: str
    hint: str


def diagnose(failed: Sequence[Item], state: PlacementState) -> Iterator[Diagnostic]:
    """Yield one diagnostic for each cause that is to be looked at first, by base."""
    for cause in causes_of(state, failed):
        if cause.primary:
            error, facts = _ERRORS[cause.limit], _facts(cause, state.fleet)
            yield Diagnostic(
                error.code,
                error.summary,
                error.detail.format_map(facts),
                place=_declared_at(state.fleet, cause),
                hint=f"{error.hint.format_map(facts)} What helps",
                command=COMMAND,
            )


def _facts(cause: PlacementCause, fleet: FleetSpec) -> dict[str, str]:
    """Return what the texts of errors say about a cause."""
    names = ", ".join(f"`{adapter}`" for adapter in cause.adapters[:SHOWN])
    rest = len(cause.adapters) - SHOWN
    slots = fleet.bases[cause.base].slots
    return {
        "names": f"{names} and {rest} more" if rest > 0 else names,
        "base": cause.base,
        "find": "finds" if len(cause.adapters) == 1 else "find",
        "text": cause.text,
        "sentence": f"{cause.text[:1].upper()}{cause.text[1:]}.",
        "need": f"{cause.need:.0f}",
        "lack": f"{int(cause.need - cause.have)}",
        "rule": cause.limit.value,
        "utilization": f"{fleet.policy.utilization:.0%}",
        "raise_slots": f"raise `max_loras` of base `{cause.base}` (now {slots}), " if slots else "",
    }


def _declared_at(fleet: FleetSpec, cause: PlacementCause) -> Position | None:
    client, _, task = alias_of(cause.adapters[0]).partition("-")
    file, _, numbers = fleet.origin("clients", client, "adapters", task).partition(":")
    line, _, column = numbers.partition(":")
    return Position(file, int(line), int(column)) if column.isdigit() else None


_SLOTS = _ErrorText(
    "FC2001",
    "Fleet does not fit: no free LoRA slot",
    "{names} of base `{base}` {find} no server with a free slot. {sentence}",
    "{raise_slots}declare another device for `{base}`, lower replicas, or retire versions.",
)
_MEMORY = _ErrorText(
    "FC2002",
    "Base fits on no device",
    "No server of base `{base}` can be opened for {names}. {sentence}",
    "declare a larger device or a smaller `kv_cache` or `max_model_len`; bases share a device only "
    "where each declares its `kv_cache`, or `placement.share_devices` is on.",
)
_REPLICAS = _ErrorText(
    "FC2003",
    "Not enough devices for the replicas",
    "{names}: {text}.",
    "declare {lack} more, or lower its replicas.",
)
_PIN = _ErrorText(
    "FC2004",
    "Adapter does not fit where it is pinned",
    "{names} would fit elsewhere: {text}, where it does not.",
    "pin it elsewhere, remove the pin, or give that place more room.",
)
_RANK = _ErrorText(
    "FC2005",
    "Adapter rank above the limit",
    "{names} has rank {need}: {text}. vLLM refuses an adapter above that.",
    "raise `max_lora_rank` of base `{base}`, which restarts its servers, or train a smaller "
    "adapter.",
)
_THROUGHPUT = _ErrorText(
    "FC2006",
    "Fleet does not fit: no throughput left",
    "{names} of base `{base}` finds no server that carries its load. {sentence} At most "
    "{utilization} of a server's throughput may be asked in any hour.",
    "declare another device for `{base}`, move batch windows out of that hour, or raise "
    "`placement.utilization`.",
)
_DEVICES = _ErrorText(
    "FC2007",
    "Fleet does not fit: no free device",
    "{names} of base `{base}`: every device that would do is in use. {sentence}",
    "declare another device.",
)
_RULES = _ErrorText(
    "FC2008",
    "A rule leaves an adapter no place",
    "{names} would fit but for a rule ({rule}): {text}.",
    "loosen the rule, or declare a device that it does not concern.",
)
_HOST_MEMORY = _ErrorText(
    "FC2009",
    "Fleet does not fit: no main memory left on a host",
    "{names} of base `{base}` cannot be listed. {sentence} A server keeps up to `max_cpu_loras` "
    "adapters in its host's memory, once for each device, and what an apply replaces is there "
    "until it has stopped.",
    "declare more `memory` on the host if it has it, another host, or a smaller `max_loras` on "
    "base `{base}`; or let what goes go first, with a plan of its own.",
)
_LATENCY = _ErrorText(
    "FC2010",
    "No device keeps a promised latency",
    "{names} of base `{base}` would be late everywhere. {sentence}",
    "promise more time (`slo` of the tier), ask for fewer tokens, or declare a faster device.",
)
_ERRORS: Mapping[Limit, _ErrorText] = {
    Limit.PIN: _PIN,
    Limit.RESERVED: _RULES,
    Limit.CORDONED: _RULES,
    Limit.DRAINING: _RULES,
    Limit.ISOLATION: _RULES,
    Limit.APART: _RULES,
    Limit.AVOID: _RULES,
    Limit.TENSOR_PARALLEL: _MEMORY,
    Limit.RANK: _RANK,
    Limit.LATENCY: _LATENCY,
    Limit.THROUGHPUT: _THROUGHPUT,
    Limit.SLOTS: _SLOTS,
    Limit.HOST_MEMORY: _HOST_MEMORY,
    Limit.DEVICES: _DEVICES,
    Limit.HOSTS: _REPLICAS,
    Limit.REPLICAS: _REPLICAS,
    Limit.KV_CACHE: _MEMORY,
    Limit.MEMORY: _MEMORY,
}
