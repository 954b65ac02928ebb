"""What may help where a host has no main memory left for what its servers list."""

from collections.abc import Iterator
from dataclasses import replace

from fleet.budget import GIB, SLOTS
from fleet.declared import Fleet
from fleet.placement.causes import Cause
from fleet.remedies.candidate import Candidate, Rungs, with_base, with_host
from fleet.remedies.room import replicas


def memory(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield fewer slots for each server, more memory of each host, fewer replicas."""
    base = fleet.bases[cause.base]
    fewer = [each for each in reversed(SLOTS) if base.slots is None or each < base.slots]
    yield tuple(
        Candidate(
            f"max_loras {slots} on base {base.name}",
            f"`max_loras: {slots}` ({'now ' + str(base.slots) if base.slots else 'now chosen'}): "
            f"a server then lists {2 * slots} adapters",
            ("bases", base.name, "max_loras"),
            with_base(replace(base, slots=slots)),
            (f"base {base.name} max_loras {slots}",),
        )
        for slots in fewer
    )
    for host in fleet.hosts.values():
        if host.memory_bytes is not None:
            now = host.memory_bytes
            lack = max(int(cause.need) - int(cause.have), 1)
            yield tuple(
                Candidate(
                    f"memory {_gib(more)} on host {host.name}",
                    f"`memory: {_gib(more)}` (now {_gib(now)}), if the host has it",
                    ("hosts", host.name, "memory"),
                    with_host(replace(host, memory_bytes=more)),
                )
                for more in (_whole(now + lack), _whole(now + 2 * lack), _whole(now + 8 * lack))
            )
    yield from replicas(fleet, cause)


def _whole(amount: int) -> int:
    """Round up to a whole GiB, or MiB where it is less than one."""
    unit = GIB if amount >= GIB else GIB >> 10
    return -(-amount // unit) * unit


def _gib(amount: int) -> str:
    if amount % GIB == 0:
        return f"{amount // GIB}GiB"
    return f"{-(-amount // (GIB >> 10))}MiB"
