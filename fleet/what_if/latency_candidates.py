"""Proposes changes where no device keeps a promised latency."""

from collections.abc import Iterator
from dataclasses import replace

from fleet.hardware import SHEETS, sheet_of
from fleet.placement import PlacementCause
from fleet.spec import FleetSpec
from fleet.what_if.candidates import (
    Candidate,
    Candidates,
    aliases_of,
    listed,
    path_of,
    with_adapters,
)


def latency(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield more time, shorter answers, and a kind of device that is faster by its data sheet."""
    late = aliases_of(fleet, cause)
    if late:
        tiers = sorted({answer.tier for answer in late})
        yield tuple(
            Candidate(
                f"slo {seconds:g} s for {listed(late)}",
                f"`slo: {{{late[0].latency}: {seconds:g}s}}` of tier {', '.join(tiers)} (now "
                f"{cause.have:g} s)",
                ("tiers", tiers[0], "slo"),
                with_adapters(late, slo_s=seconds),
            )
            for seconds in _longer(cause.need)
        )
        yield tuple(
            Candidate(
                f"at most {tokens} tokens an answer of {listed(late)}",
                f"`output_tokens: {tokens}` of its demand, if answers are that short",
                (*path_of(late[0]), "demand"),
                lambda given, tokens=tokens: _shorter(given, [e.alias for e in late], tokens),  # type: ignore[misc]
            )
            for part in (0.9, 0.5, 0.25)
            for most in [max((e.demand.output_tokens for e in late if e.demand), default=0)]
            for tokens in [int(part * most * cause.have / cause.need)]
            if tokens
        )
    yield _faster(fleet)


def _longer(need: float) -> tuple[float, ...]:
    """Return the times to try: the needed time, rounded up to two digits, and longer ones."""
    return tuple(float(f"{need * more:.2g}") for more in (1.05, 1.5, 3))


def _shorter(fleet: FleetSpec, aliases: list[str], tokens: int) -> FleetSpec:
    changed = {
        name: replace(adapter, demand=replace(adapter.demand, output_tokens=tokens))
        for name, adapter in fleet.adapters.items()
        if name in aliases and adapter.demand is not None and adapter.demand.output_tokens > tokens
    }
    return replace(fleet, adapters={**fleet.adapters, **changed})


def _faster(fleet: FleetSpec) -> Candidates:
    """Propose a faster GPU of the known data sheets, the slowest first."""
    kinds = {device.kind for host in fleet.hosts.values() for device in host.devices}
    sheets = [sheet for sheet in map(sheet_of, sorted(kinds)) if sheet is not None]
    best = max((known_sheet.bandwidth for known_sheet in sheets), default=0.0)
    return tuple(
        Candidate(
            f"a faster device, such as 1 {kind}",
            f"declare a device of kind `{kind}` with its price; whether it keeps the promise is "
            "known once it is measured",
            ("hosts",),
            what_if=(f"gpu {kind} +1 at 0",),
            devices=1,
            priced=False,
        )
        for bandwidth, kind in sorted((sheet.bandwidth, kind) for kind, sheet in SHEETS.items())
        if bandwidth > best and kind not in kinds
    )
