"""What `fleetctl rollout` shows and writes: one rollout, a person's mark on it, what was tried."""

import json
from typing import TYPE_CHECKING, Any

import click

from fleetctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping


def rollouts(session: Session) -> "list[dict[str, Any]]":
    """Return where every alias stands, in plain form; the servers are asked."""
    from fleet.history import settled  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.pace import pace  # noqa: PLC0415
    from plans.rollouts import document  # noqa: PLC0415

    fleet, live = session.fleet(), session.observe()
    history = settled(session.history(), live)
    paced = pace(fleet, live, history, session.now())
    return document(fleet, paced.wanted, history, live.routes())


def one(session: Session, alias: str) -> "Mapping[str, Any]":
    """Return where one alias stands.

    Raises:
        FleetError: FC5132, it is not declared.
    """
    from fleet.errors import FleetError, did_you_mean, problem  # noqa: PLC0415 (`--help` is fast)

    found = {each["alias"]: each for each in rollouts(session)}
    if alias not in found:
        near = did_you_mean(alias, sorted(found))
        raise FleetError(
            problem(
                "FC5132",
                "No such rollout",
                f"`{alias}` is not declared.",
                hint=near,
                command="fleetctl rollout list --all",
            )
        )
    return found[alias]


def mark(
    session: Session, alias: str, word: str, reason: str, form: str, then: str
) -> "Mapping[str, Any]":
    """Write down what a person says of the declared version, and tell what follows."""
    from fleet.errors import FleetError, problem  # noqa: PLC0415 (keeps `--help` fast)

    found = one(session, alias)
    if found["percent"] == 100:  # noqa: PLR2004 (percent)
        raise FleetError(
            problem(
                "FC5133",
                "The rollout is complete",
                f"{found['version']} answers all requests of `{alias}`; there is no stage to "
                f"{word}.",
                hint="To go back to the version before:",
                command=f"fleetctl rollback {alias}",
            )
        )
    if not found["released"]:
        raise FleetError(
            problem(
                "FC5135",
                "The version is kept out",
                f"{found['waits_for'] or found['next']}.",
                command=f"fleetctl release {alias}",
            )
        )
    record = {"alias": alias, "adapter": found["adapter"], "mark": word, "reason": reason}
    session.ledger().append("rollout_marked", [record])
    if form == "json":
        click.echo(json.dumps({**record, "by": session.by}, indent=2))
    click.echo(f"{alias}: {found['version']} {then}.", err=True)
    return found


def tried(entries: "list[Any]", alias: str, version: str | None) -> str:
    """Return the full name of the version tried last, or of the one given."""
    from fleet.errors import FleetError, problem  # noqa: PLC0415 (keeps `--help` fast)

    named = [
        str(each.data["adapter"])
        for each in entries
        if each.data.get("alias") == alias and each.data.get("adapter")
        if each.kind in ("gate_judged", "rolled_back", "rollout_marked")
    ]
    fitting = [each for each in named if version in (None, each.rpartition("-v")[2])]
    if not fitting:
        which = f"{version} of `{alias}`" if version else f"`{alias}`"
        raise FleetError(
            problem(
                "FC5134",
                "Nothing to report",
                f"The ledger knows of no rollout of {which}.",
                command="fleetctl evidence list",
            )
        )
    return fitting[-1]
