"""Why something does not fit, as errors: the constraint that binds, in numbers, and a way out."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from fleet.errors import Diagnostic, Position
from fleet.names import alias_of, alias_parts
from fleet.placement.causes import Limit, PlacementCause
from fleet.placement.items import Item
from fleet.placement.state import PlacementState
from fleet.placement.unplaced import causes_of
from fleet.spec import FleetSpec

COMMAND = "fleetctl diagnose"
"""Tries what would help, and prints what does."""


def diagnose(failed: Sequence[Item], board: PlacementState) -> Iterator[Diagnostic]:
    """Yield one diagnostic for each cause that is to be looked at first, by base."""
    for cause in causes_of(board, failed):
        if cause.primary:
            yield _MAKERS[cause.limit](cause, board.fleet)


def _slots(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    count, slots = len(cause.adapters), fleet.bases[cause.base].slots
    raised = f"raise `max_loras` of base `{cause.base}` (now {slots}), " if slots else ""
    return Diagnostic(
        "FC2001",
        "Fleet does not fit: no free LoRA slot",
        f"{_names(cause)} of base `{cause.base}` {'finds' if count == 1 else 'find'} no server "
        f"with a free slot. {_sentence(cause)}",
        place=_place(fleet, cause),
        hint=f"{raised}declare another device for `{cause.base}`, lower replicas, or retire "
        "versions. What helps",
        command=COMMAND,
    )


def _devices(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    return Diagnostic(
        "FC2007",
        "Fleet does not fit: no free device",
        f"{_names(cause)} of base `{cause.base}`: every device that would do is in use. "
        f"{_sentence(cause)}",
        place=_place(fleet, cause),
        hint="declare another device. What helps",
        command=COMMAND,
    )


def _memory(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    return Diagnostic(
        "FC2002",
        "Base fits on no device",
        f"No server of base `{cause.base}` can be opened for {_names(cause)}. {_sentence(cause)}",
        place=_place(fleet, cause),
        hint="declare a larger device or a smaller `kv_cache` or `max_model_len`; bases share a "
        "device only where each declares its `kv_cache`, or `placement.share_devices` is on. "
        "What helps",
        command=COMMAND,
    )


def _replicas(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    lack = int(cause.need - cause.have)
    return Diagnostic(
        "FC2003",
        "Not enough devices for the replicas",
        f"{_names(cause)}: {cause.text}.",
        place=_place(fleet, cause),
        hint=f"declare {lack} more, or lower its replicas. What helps",
        command=COMMAND,
    )


def _pin(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    return Diagnostic(
        "FC2004",
        "Adapter does not fit where it is pinned",
        f"{_names(cause)} would fit elsewhere: {cause.text}, where it does not.",
        place=_place(fleet, cause),
        hint="pin it elsewhere, remove the pin, or give that place more room. What helps",
        command=COMMAND,
    )


def _rank(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    return Diagnostic(
        "FC2005",
        "Adapter rank above the limit",
        f"{_names(cause)} has rank {cause.need:.0f}: {cause.text}. vLLM refuses an adapter above "
        "that.",
        place=_place(fleet, cause),
        hint=f"raise `max_lora_rank` of base `{cause.base}`, which restarts its servers, or train "
        "a smaller adapter. What helps",
        command=COMMAND,
    )


def _throughput(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    return Diagnostic(
        "FC2006",
        "Fleet does not fit: no throughput left",
        f"{_names(cause)} of base `{cause.base}` finds no server that carries its load. "
        f"{_sentence(cause)} At most {fleet.policy.utilization:.0%} of a server's throughput may "
        "be asked in any hour.",
        place=_place(fleet, cause),
        hint=f"declare another device for `{cause.base}`, move batch windows out of that hour, or "
        "raise `placement.utilization`. What helps",
        command=COMMAND,
    )


def _latency(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    return Diagnostic(
        "FC2010",
        "No device keeps a promised latency",
        f"{_names(cause)} of base `{cause.base}` would be late everywhere. {_sentence(cause)}",
        place=_place(fleet, cause),
        hint="promise more time (`slo` of the tier), ask for fewer tokens, or declare a faster "
        "device. What helps",
        command=COMMAND,
    )


def _host_memory(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    return Diagnostic(
        "FC2009",
        "Fleet does not fit: no main memory left on a host",
        f"{_names(cause)} of base `{cause.base}` cannot be listed. {_sentence(cause)} A server "
        "keeps up to `max_cpu_loras` adapters in its host's memory, once for each device, and what "
        "an apply replaces is there until it has stopped.",
        place=_place(fleet, cause),
        hint="declare more `memory` on the host if it has it, another host, or a smaller "
        f"`max_loras` on base `{cause.base}`; or let what goes go first, with a plan of its own. "
        "What helps",
        command=COMMAND,
    )


def _rules(cause: PlacementCause, fleet: FleetSpec) -> Diagnostic:
    return Diagnostic(
        "FC2008",
        "A rule leaves an adapter no place",
        f"{_names(cause)} would fit but for a rule ({cause.limit.value}): {cause.text}.",
        place=_place(fleet, cause),
        hint="loosen the rule, or declare a device that it does not concern. What helps",
        command=COMMAND,
    )


_MAKERS: Mapping[Limit, Callable[[PlacementCause, FleetSpec], Diagnostic]] = {
    Limit.PIN: _pin,
    Limit.RESERVED: _rules,
    Limit.CORDONED: _rules,
    Limit.DRAINING: _rules,
    Limit.ISOLATION: _rules,
    Limit.APART: _rules,
    Limit.AVOID: _rules,
    Limit.TENSOR_PARALLEL: _memory,
    Limit.RANK: _rank,
    Limit.LATENCY: _latency,
    Limit.THROUGHPUT: _throughput,
    Limit.SLOTS: _slots,
    Limit.HOST_MEMORY: _host_memory,
    Limit.DEVICES: _devices,
    Limit.HOSTS: _replicas,
    Limit.REPLICAS: _replicas,
    Limit.KV_CACHE: _memory,
    Limit.MEMORY: _memory,
}


def _names(cause: PlacementCause, shown: int = 3) -> str:
    text = ", ".join(f"`{each}`" for each in cause.adapters[:shown])
    rest = len(cause.adapters) - shown
    return f"{text} and {rest} more" if rest > 0 else text


def _sentence(cause: PlacementCause) -> str:
    return f"{cause.text[:1].upper()}{cause.text[1:]}."


def _place(fleet: FleetSpec, cause: PlacementCause) -> Position | None:
    client, task = alias_parts(alias_of(cause.adapters[0]))
    file, _, numbers = fleet.origin("clients", client, "adapters", task).partition(":")
    line, _, column = numbers.partition(":")
    return Position(file, int(line), int(column)) if column.isdigit() else None
