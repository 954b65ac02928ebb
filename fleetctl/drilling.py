"""Drills as a project does them: under the lease, for one alias or for all that are due."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from fleetctl.rolling_back import held_versions, known_inputs
from fleetctl.session import Session

if TYPE_CHECKING:
    from runtime.drill import DrillResult


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
    from runtime.drill import drill  # noqa: PLC0415
    from runtime.gateway.control import LocalGateways  # noqa: PLC0415

    gateways = LocalGateways(session.state_dir)
    with ExitStack() as held:
        try:
            held.enter_context(session.ledger().lease(f"{session.by} (run {session.run}, drill)"))
        except LockHeldError:
            raise
        except (FleetError, OSError) as error:
            click.echo(f"Warning: no lease: {error}", err=True)
        try:
            return await drill(
                alias,
                to,
                gateways,
                session.ledger,
                live=live,
                held=lambda: held_versions(session, alias),
                inputs=smoke or known_inputs(session, alias),
            )
        finally:
            await gateways.close()


async def due(session: Session, every: timedelta | None) -> tuple[list[str], list[str]]:
    """Return the aliases that are due for a drill, and those that have nowhere to go back to.

    Args:
        session: Whose routing table and ledger.
        every: Drilled with success longer ago than this, or never; None: all.
    """
    from fleet.errors import FleetError  # noqa: PLC0415 (keeps `--help` fast)
    from runtime.drill import last_drills  # noqa: PLC0415
    from runtime.flip import choose_target  # noqa: PLC0415
    from runtime.gateway.control import LocalGateways  # noqa: PLC0415

    gateways = LocalGateways(session.state_dir)
    try:
        table, _ = await gateways.read()
    finally:
        await gateways.close()
    last = last_drills(session.ledger().read()) if every else {}
    now, wanted, stuck = session.now(), [], []
    for alias, entry in sorted(table.aliases.items()):
        if every and alias in last and now - last[alias] < every:
            continue
        try:
            choose_target(alias, entry, None)
        except FleetError:
            stuck.append(alias)
        else:
            wanted.append(alias)
    return wanted, stuck
