"""What `fleetctl rollout` shows and writes: one rollout, a person's mark on it, what was tried."""

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import click

from fleetctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

_ONWARD: Final = ("approve", "advance", "extend")
"""What people say that a hold or a pause goes before."""


def rollouts(session: Session) -> "list[dict[str, Any]]":
    """Return where every alias stands, in plain form; the servers are asked."""
    from fleet.history import settled  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.rollouts import decide_rollouts  # noqa: PLC0415
    from plans.reports.rollouts import document  # noqa: PLC0415

    fleet, live = session.fleet(), session.observe()
    history = settled(session.history(), live)
    paced = decide_rollouts(fleet, live, history, session.now())
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


def pause(
    session: Session, alias: str, length: "timedelta | None", end: "datetime | None", reason: str,
    form: str,
) -> None:  # fmt: skip
    """Write down that no stage goes up for a while; one of `length` and `end` is given.

    Raises:
        FleetError: FC5136, it would be over already.
    """
    from fleet.errors import FleetError, problem  # noqa: PLC0415 (keeps `--help` fast)

    now = session.now()
    until = now + length if length is not None else end
    if until is None or until <= now:
        raise FleetError(
            problem(
                "FC5136",
                "The pause would be over already",
                f"It is {now:%Y-%m-%d %H:%M} UTC, and the pause of `{alias}` would end before.",
                hint="Give a time ahead; one without a zone is UTC.",
                command=f"fleetctl rollout pause {alias} --for 4h",
            )
        )
    then = (
        f"stays where it is until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC and then goes on by "
        f"itself; before that: fleetctl rollout resume {alias}"
    )
    found = mark(session, alias, "pause", reason, form, then, until)
    if any(each["mark"] == "hold" for each in found["marks"]):
        click.echo(f"{alias}: it is held as well, which lasts until it is resumed.", err=True)


def mark(
    session: Session,
    alias: str,
    word: str,
    reason: str,
    form: str,
    then: str,
    until: "datetime | None" = None,
) -> "Mapping[str, Any]":
    """Write down what a person says of the declared version, and tell what follows.

    An abort is of the version that is half-way, also where the file asks for another by now.
    """
    from fleet.errors import FleetError, problem  # noqa: PLC0415 (keeps `--help` fast)

    found = one(session, alias)
    if word == "abort" and found["half_way"]:
        version = found["half_way"].rpartition("-v")[2]
        found = {**found, "adapter": found["half_way"], "version": version, "released": True}
        found |= {"percent": found["shares"][version], "phase": "waiting"}
    soaks = word == "abort" and found["phase"] == "soaking"
    if found["percent"] == 100 and not soaks:  # noqa: PLR2004 (percent)
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
    if word in _ONWARD:
        _require_loaded(session, alias, found)
    record = {"alias": alias, "adapter": found["adapter"], "mark": word, "reason": reason}
    record |= {"until": until.isoformat()} if until else {}
    facts = session.fleet().versions.get(found["adapter"])
    record |= {"digest": facts.digest} if facts else {}
    session.ledger().append("rollout_marked", [record])
    if form == "json":
        click.echo(json.dumps({**record, "by": session.by}, indent=2))
    click.echo(f"{alias}: {found['version']} {then}.", err=True)
    if found["phase"] == "doubted" and word in _ONWARD:
        click.echo(f"Not while it is doubted: {found['waits_for']}.", err=True)
    if found["phase"] == "paused" and word in _ONWARD:
        resume = f"before that: fleetctl rollout resume {alias}"
        click.echo(f"Not while it stands still: {found['waits_for']}; {resume}", err=True)
    return found


def _require_loaded(session: Session, alias: str, found: "Mapping[str, Any]") -> None:
    """Refuse to send a version on that no server holds: nobody can have looked at it.

    Raises:
        FleetError: FC5152. A server that does not answer may hold it.
    """
    from fleet.errors import FleetError, problem  # noqa: PLC0415 (keeps `--help` fast)

    live = session.observe()
    loaded = {each.adapter for each in live.adapters().values()}
    if found["adapter"] in loaded or live.unknown_servers:
        return
    raise FleetError(
        problem(
            "FC5152",
            "The version of the rollout is not loaded",
            f"No server holds {found['version']} of `{alias}`, so nobody has seen an answer of it.",
            hint="Load it first, which gives it no traffic that its gates do not allow; then say "
            "it again.",
            command="fleetctl apply",
        )
    )


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
