"""What a tick looks at, and what is said where not all of it is to be believed."""

from typing import TYPE_CHECKING

import click

from fleetctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.declared import Fleet
    from fleet.history import Entry
    from fleet.resources import State
    from fleet.verification import Checked
    from runtime.ledger.mirrored import LastKnown
    from runtime.rollouts.tick import Scene


def scene_of(session: Session, live: "State", known: "Sequence[Entry] | None" = None) -> "Scene":
    """Return what a tick looks at, by the entries that are known; None: the ledger is read."""
    from fleet.history import fold, settled  # noqa: PLC0415 (keeps `--help` fast)
    from runtime.rollouts.tick import Scene, behind, trusted, unsound  # noqa: PLC0415

    entries = session.ledger().read() if known is None else known
    history = settled(fold(entries), live)
    now, found, fleet = session.now(), unsound(entries, history), session.fleet()
    freed = {str(each.data["alias"]): each.seq for each in entries if each.kind == "released"}
    return Scene(
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


def _asks(fleet: "Fleet", alias: str, found: "Checked") -> bool:
    """Say whether what is declared now is to be judged by the gate that a verdict is of."""
    declared = fleet.adapters.get(alias)
    if declared is None or str(declared.name) != found.adapter:
        return False
    return found.gate in fleet.rollouts[declared.rollout].gates


def tell_doubts(scene: "Scene") -> None:
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


async def tell_away(session: Session, known: "LastKnown", why: str) -> None:
    """Say loudly by what gates judge, and what does not go on; tell operators once."""
    from fleet.occasions import ledger_away  # noqa: PLC0415 (keeps `--help` fast)
    from fleetctl.telling import tell_occasions  # noqa: PLC0415

    count, last = len(known.entries), known.entries[-1].time
    click.echo(
        f"THE LEDGER CANNOT BE READ. Gates judge by the {count:,} entries that are known, until "
        f"{last:%Y-%m-%d %H:%M:%S} UTC, and take traffic back. No rollout moves on, and nothing is "
        "healed.",
        err=True,
    )
    occasion = ledger_away(known.entries, f"{why}.", session.now())
    for line in await tell_occasions(session, [occasion], known.entries, why):
        click.echo(f"Warning: {line}", err=True)
