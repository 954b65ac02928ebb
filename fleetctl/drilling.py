"""Drills as a project does them: under the lease, for one alias or for all that are due."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from fleetctl.rolling_back import known_inputs, what_speaks_against
from fleetctl.session import Session

if TYPE_CHECKING:
    from runtime.rollback.drill import DrillResult

_PARTS = (("p50", 50), ("p99", 99), ("slowest", 100))


async def drill_one(
    session: Session, alias: str, to: str | None, smoke: Sequence[str], *, live: bool
) -> "DrillResult":
    """Exercise the rollback of one alias.

    It takes the lease, because no drill is worth disturbing a run; with the ledger's home
    down a dry drill goes on without one, as a rollback would.

    Raises:
        FleetError: no such alias or version, a rollout is under way, or another run holds
            the fleet.
    """
    from fleet.errors import FleetError, LockHeldError  # noqa: PLC0415 (keeps `--help` fast)
    from runtime.deadline import call_with_timeout  # noqa: PLC0415
    from runtime.gateway.control import LocalGateways  # noqa: PLC0415
    from runtime.rollback.drill import drill  # noqa: PLC0415

    gateways = LocalGateways(session.state_dir, envoys=session.envoys())
    scribe, holder = session.scribe(), f"{session.by} (run {session.run}, drill)"
    with ExitStack() as held:
        try:
            call_with_timeout(lambda: held.enter_context(session.ledger().lease(holder)))
        except LockHeldError:
            raise
        except (FleetError, OSError) as error:  # among them that it does not answer in time
            click.echo(f"Warning: no lease: {error}", err=True)
        try:
            return await drill(
                alias,
                to,
                gateways,
                scribe,
                live=live,
                doubts=lambda names: what_speaks_against(session, scribe, alias, names),
                inputs=smoke or await asyncio.to_thread(known_inputs, session, scribe, alias),
            )
        finally:
            await gateways.close()


async def tell_failed(session: Session, result: "DrillResult") -> list[str]:
    """Tell people that a rollback would not succeed now; return warnings."""
    from fleet.errors import FleetError  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.maintenance import failed_drill  # noqa: PLC0415
    from fleetctl.telling import tell_occasions  # noqa: PLC0415

    reasons = (*result.failures, *result.smoke.failures)
    about = failed_drill(result.alias, result.target, reasons, session.now())
    try:
        return await tell_occasions(session, [about])
    except (FleetError, OSError) as error:
        return [f"nobody was notified: {error}"]


def times_of(results: Sequence["DrillResult"]) -> dict[str, Any]:
    """Return the times of successful drills of one alias, in seconds.

    The 99th percentile is the smallest time that 99 % do not exceed.
    """
    last = results[-1]
    flips = sorted(each.seconds for each in results)
    there = {name: flips[-(-part * len(flips) // 100) - 1] for name, part in _PARTS}
    smokes = sorted(each.smoke.seconds for each in results)
    slowest = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in there.items())
    moved = "there and back" if last.live else "no traffic moved"
    sentence = (
        f"{len(results)} drills of {last.alias} to {last.target} ({moved}): to the last "
        f"gateway's acknowledgement {slowest}; smoke test {smokes[len(smokes) // 2]:.2f} s"
    )
    return {
        "alias": last.alias,
        "target": last.target,
        "live": last.live,
        "drills": len(results),
        **{f"{name}_s": round(seconds, 4) for name, seconds in there.items()},
        "smoke_p50_s": round(smokes[len(smokes) // 2], 4),
        "sentence": sentence,
    }


async def due(
    session: Session, every: timedelta | None, *, declared: bool
) -> tuple[list[str], list[str]]:
    """Return the aliases that are due for a drill, and those that have nowhere to go back to.

    Args:
        session: Whose routing table and ledger.
        every: Drilled with success longer ago than this, or never; None: all.
        declared: As often as each alias's rollout declares; one that declares nothing never is.
    """
    from fleet.errors import FleetError  # noqa: PLC0415
    from fleet.history import fallback_check, fold_entries, loaded_digests  # noqa: PLC0415
    from fleet.maintenance import last_drills  # noqa: PLC0415 (keeps `--help` fast)
    from runtime.gateway.control import LocalGateways  # noqa: PLC0415
    from runtime.rollback.publish import choose_target  # noqa: PLC0415

    gateways = LocalGateways(session.state_dir, envoys=session.envoys())
    try:
        table, _ = await gateways.read_table()
    finally:
        await gateways.close()
    often = _declared(session) if declared else dict.fromkeys(table.aliases, every)
    entries = session.ledger().read()
    last, past = last_drills(entries), fold_entries(entries)
    digests = loaded_digests(past)
    wanted: list[str] = []
    stuck: list[str] = []
    for alias, entry in sorted(table.aliases.items()):
        if alias not in often:
            continue
        longest = often[alias]
        if longest and alias in last and session.now() - last[alias] < longest:
            continue
        try:
            choose_target(alias, entry, None, partial(fallback_check, past, alias, digests))
        except FleetError:
            stuck.append(alias)
        else:
            wanted.append(alias)
    return wanted, stuck


def _declared(session: Session) -> dict[str, timedelta | None]:
    """Return how often each alias is to be drilled, of those whose rollout says so."""
    fleet = session.fleet()
    return {
        alias: often
        for alias, adapter in fleet.adapters.items()
        if (often := fleet.rollouts[adapter.rollout].drill)
    }
