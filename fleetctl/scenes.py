"""What a tick looks at, and what is said where not all of it is to be believed."""

from typing import TYPE_CHECKING

import click

from fleetctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.history import Entry, EvidenceCheck
    from fleet.plan import Plan
    from fleet.resources import State
    from fleet.spec import FleetSpec
    from runtime.gates.tick import TickContext
    from runtime.ledger.fallback import LedgerSnapshot


def scene_of(
    session: Session, live: "State", known: "Sequence[Entry] | None" = None
) -> "TickContext":
    """Return what a tick looks at, by the entries that are known; None: the ledger is read."""
    from fleet.history import fold_entries, settled  # noqa: PLC0415 (keeps `--help` fast)
    from runtime.gates.tick import TickContext, trusted, unsound  # noqa: PLC0415
    from runtime.ledger.clock import behind  # noqa: PLC0415

    entries = session.ledger().read() if known is None else known
    history = settled(fold_entries(entries), live)
    now, found, fleet = session.now(), unsound(entries, history), session.fleet()
    freed = {str(each.data["alias"]): each.seq for each in entries if each.kind == "released"}
    return TickContext(
        fleet,
        live,
        trusted(history, found),
        entries,
        session.state_dir,
        now,
        behind(entries, now),
        {alias: each for alias, each in found.items() if each.seq > freed.get(alias, 0)},
        frozenset(
            alias
            for alias, each in found.items()
            if each.seq < freed.get(alias, 0) and _asks(fleet, alias, each)
        ),
    )


def _asks(fleet: "FleetSpec", alias: str, found: "EvidenceCheck") -> bool:
    """Say whether what is declared now is to be judged by the gate that a verdict is of."""
    declared = fleet.adapters.get(alias)
    if declared is None or str(declared.name) != found.adapter:
        return False
    return found.gate in fleet.rollouts[declared.rollout].gates


def require_believed(session: Session, plan: "Plan") -> None:
    """Refuse a plan that raises a version's share by what is not to be believed now.

    A plan that is made now holds such versions by itself; one from a file was made before.

    Raises:
        FleetError: FC5108, the clock is behind the ledger; FC5130, evidence of an alias does not
            follow from its counts.
    """
    from fleet.errors import FleetError  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.history import fold_entries  # noqa: PLC0415
    from runtime.gates.tick import tampering, unsound  # noqa: PLC0415
    from runtime.ledger.clock import behind  # noqa: PLC0415

    up = rising(plan)
    if not up:
        return
    entries = session.ledger().read()
    late = behind(entries, session.now())
    if late is not None:
        raise late
    found = unsound(entries, fold_entries(entries), up)
    if found:
        raise FleetError(*(tampering(alias, each) for alias, each in sorted(found.items())))


def rising(plan: "Plan") -> frozenset[str]:
    """Return the aliases of which a plan gives the newest version a larger share."""
    from fleet.resources import Route  # noqa: PLC0415 (keeps `--help` fast)

    return frozenset(
        after.alias
        for each in plan.changes
        if isinstance(before := each.before, Route) and isinstance(after := each.after, Route)
        for newest in after.shares[:1]
        if newest.percent
        > next((old.percent for old in before.shares if old.adapter == newest.adapter), 0)
    )


def tell_doubts(scene: "TickContext") -> None:
    """Say loudly what is not believed, and what does not go on."""
    if scene.behind is not None:
        click.echo(
            "THE CLOCK IS BEHIND THE LEDGER. Live gates are judged by it and take traffic back. "
            "Nothing passes, and no rollout moves on.",
            err=True,
        )
    for alias, each in scene.tampered.items():
        click.echo(
            f"EVIDENCE OF {alias} WAS TAMPERED WITH (ledger entry {each.seq}). Its live gates are "
            "judged without it and take traffic back. It does not move on.",
            err=True,
        )
    for alias in sorted(scene.anew):
        click.echo(f"{alias}: was released, and is judged anew before it moves on.", err=True)


async def tell_away(
    session: Session, known: "LedgerSnapshot", why: str, scene: "TickContext"
) -> None:
    """Say loudly by what gates judge, and what does not go on; tell operators once."""
    from fleet.maintenance import ledger_away  # noqa: PLC0415 (keeps `--help` fast)
    from fleetctl.telling import tell_occasions  # noqa: PLC0415

    count, last = len(known.entries), known.entries[-1].time
    click.echo(
        f"THE LEDGER CANNOT BE READ. Gates judge by the {count:,} entries that are known, until "
        f"{last:%Y-%m-%d %H:%M:%S} UTC, and take traffic back. No rollout moves on, nothing is "
        "healed, and no golden set is asked.",
        err=True,
    )
    for trial in (each for each in scene.trials if each.offline):
        gates = ", ".join(each.name for each in trial.offline)
        click.echo(
            f"{trial.alias}: {trial.adapter} stays at {trial.percent} %; its golden sets ({gates}) "
            "are asked once the ledger is back.",
            err=True,
        )
    occasion = ledger_away(known.entries, f"{why}.", session.now())
    for line in await tell_occasions(session, [occasion], known.entries, why):
        click.echo(f"Warning: {line}", err=True)
