"""`fleetctl rollout`: where new versions stand, and what people say of them."""

import asyncio
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import click

from fleetctl import completion
from fleetctl.options import duration, moment
from fleetctl.rollouts import mark, one, rollouts, tried
from fleetctl.rollouts import pause as pause_rollout
from fleetctl.session import Session

_FORMAT = click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
_REASON = click.option("--reason", default="", metavar="TEXT", help="Why; for the ledger.")


@click.group(
    name="rollout",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl rollout list
  fleetctl rollout status acme-support
  fleetctl rollout pause acme-support --for 4h --reason "the client has a launch"
  fleetctl rollout approve acme-support --reason "checked 50 answers by hand"
  fleetctl rollout report acme-support --format html --out report.html
""",
)
def command() -> None:
    """Show where new versions stand; hold, pause, approve, advance, extend or abort one.

    What people say is written to the ledger and holds for the declared version; the next
    apply or reconcile acts on it.
    """


@command.command(
    "list",
    epilog="""\b
Examples:
  fleetctl rollout list
  fleetctl rollout list --all --format json
""",
)
@click.option("--all", "every", is_flag=True, help="Also aliases in which nothing is going on.")
@_FORMAT
@click.pass_obj
def list_(session: Session, *, every: bool, form: str) -> None:
    """List the rollouts that are under way or wait, with their gates."""
    from plans.rollouts import active, render_list  # noqa: PLC0415 (keeps `--help` fast)

    found = rollouts(session)
    shown = found if every else active(found)
    click.echo(json.dumps(shown, indent=2) if form == "json" else render_list(shown), nl=False)
    if form == "json":
        click.echo()


@command.command(
    "status",
    epilog="""\b
Examples:
  fleetctl rollout status acme-support
  fleetctl rollout status acme-support --format json
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@_FORMAT
@click.pass_obj
def status(session: Session, alias: str, form: str) -> None:
    """Show one rollout in full: stage, gates with their reasons, what it waits for."""
    from plans.rollouts import render_one  # noqa: PLC0415 (keeps `--help` fast)

    found = one(session, alias)
    if form == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(render_one(found, session.now()), nl=False)


@command.command("hold", epilog="\b\nExamples:\n  fleetctl rollout hold acme-support")
@click.argument("alias", shell_complete=completion.aliases)
@_REASON
@_FORMAT
@click.pass_obj
def hold(session: Session, alias: str, reason: str, form: str) -> None:
    """Keep the version at the share that it has, until `resume`. A gate that fails still acts."""
    then = f"stays where it is; to let it go on: fleetctl rollout resume {alias}"
    mark(session, alias, "hold", reason, form, then)


@command.command(
    "pause",
    epilog="""\b
Examples:
  fleetctl rollout pause acme-support --for 4h --reason "the client has a launch"
  fleetctl rollout pause acme-support --until 2026-12-01T08:00Z
  fleetctl rollout pause acme-support --until "2026-12-01 09:00+01:00" --format json
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option("--for", "length", metavar="DURATION", callback=duration, help="Such as 4h or 3d.")
@click.option(
    "--until", metavar="TIME", callback=moment, help="ISO 8601; without a zone it is UTC."
)
@_REASON
@_FORMAT
@click.pass_obj
def pause(
    session: Session,
    alias: str,
    length: timedelta | None,
    until: datetime | None,
    reason: str,
    form: str,
) -> None:
    """Let no stage go up for a while; it goes on by itself, or with `resume`.

    Gates are judged meanwhile, and one that fails still takes the traffic back. A later pause
    takes the place of an earlier one. What must wait for a person is a `hold`.
    """
    if (length is None) == (until is None):
        raise click.UsageError("Say --for DURATION or --until TIME.")
    pause_rollout(session, alias, length, until, reason, form)


@command.command("resume", epilog="\b\nExamples:\n  fleetctl rollout resume acme-support")
@click.argument("alias", shell_complete=completion.aliases)
@_REASON
@_FORMAT
@click.pass_obj
def resume(session: Session, alias: str, reason: str, form: str) -> None:
    """Lift a hold, and end a pause."""
    mark(session, alias, "resume", reason, form, "goes on when its stage allows")


@command.command("approve", epilog="\b\nExamples:\n  fleetctl rollout approve acme-support")
@click.argument("alias", shell_complete=completion.aliases)
@_REASON
@_FORMAT
@click.pass_obj
def approve(session: Session, alias: str, reason: str, form: str) -> None:
    """Let the version leave this stage although gates cannot tell; it still bakes to the end.

    A gate that failed is not undecided: that takes an override in the declarations.
    """
    mark(session, alias, "approve", reason, form, "leaves this stage when it has baked")


@command.command("extend", epilog="\b\nExamples:\n  fleetctl rollout extend acme-support")
@click.argument("alias", shell_complete=completion.aliases)
@_REASON
@_FORMAT
@click.pass_obj
def extend(session: Session, alias: str, reason: str, form: str) -> None:
    """Give undecided gates of this stage as much time again, from now: its longest bake."""
    from fleet.errors import FleetError, problem  # noqa: PLC0415 (keeps `--help` fast)

    found = one(session, alias)
    if not found["percent"]:
        raise FleetError(
            problem(
                "FC5137",
                "There is no stage to extend",
                f"{found['version']} of `{alias}` has no traffic yet, and a golden set says the "
                "same tomorrow.",
                hint="Let it begin all the same, or end it:",
                command=f"fleetctl rollout approve {alias}",
            )
        )
    mark(session, alias, "extend", reason, form, "has as much time again")


@command.command(
    "advance",
    epilog="""\b
Examples:
  fleetctl rollout advance acme-support --reason "the old version gives wrong prices"
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option("--reason", required=True, metavar="TEXT", help="Why; for the ledger.")
@_FORMAT
@click.pass_obj
def advance(session: Session, alias: str, reason: str, form: str) -> None:
    """Send the version to its next stage now, whatever bake and undecided gates say."""
    mark(session, alias, "advance", reason, form, "goes on with the next apply or reconcile")


@command.command(
    "abort",
    epilog="""\b
Examples:
  fleetctl rollout abort acme-support --reason "client asked to wait"
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@_REASON
@_FORMAT
@click.pass_obj
def abort(session: Session, alias: str, reason: str, form: str) -> None:
    """End the rollout: the version before answers all requests, now.

    Ends the version that is half-way, also where the file asks for another one by now. Also after
    the cut-over, while the version before is still loaded (`soaking`). Where the file still asks
    for the new one it stays out until `fleetctl release ALIAS`.
    """
    found = mark(session, alias, "abort", reason, form, "gets no more traffic")
    if not found["percent"]:
        return
    sys.exit(asyncio.run(_taken_back(session, alias, reason, found["adapter"], form)))


async def _taken_back(session: Session, alias: str, reason: str, adapter: str, form: str) -> int:
    from fleetctl.rolling_back import roll_back, tell_of  # noqa: PLC0415 (keeps `--help` fast)

    result = await roll_back(session, alias, reason=reason or "aborted", only=adapter)
    for line in (*result.warnings, *result.failures):
        click.echo(f"Warning: {line}", err=True)
    click.echo(result.sentence, err=form == "json")
    for line in await tell_of(session, result):
        click.echo(f"Warning: {line}", err=True)
    return 0 if result.complete else 1


@command.command(
    "report",
    epilog="""\b
Examples:
  fleetctl rollout report acme-support
  fleetctl rollout report acme-support --version 2.2.0 --format html --out report.html
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option(
    "--version",
    metavar="X.Y.Z",
    shell_complete=completion.numbers,
    help="Default: the version tried last.",
)
@click.option("--format", "form", type=click.Choice(["html", "json", "md"]), default="md")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Instead of stdout.")
@click.pass_obj
def report(session: Session, alias: str, version: str | None, form: str, out: Path | None) -> None:
    """Write what was tried, measured and decided, fit to be sent to the client.

    From the ledger alone. Names no server, no person and no other client.
    """
    from fleetctl.files import write_text  # noqa: PLC0415 (keeps `--help` fast)
    from plans.rollout_report import document, render_html, render_markdown  # noqa: PLC0415

    entries = session.ledger().read()
    adapter = tried(entries, alias, version)
    made = document(entries, alias, adapter, session.now())
    text = (
        json.dumps(made, indent=2) + "\n"
        if form == "json"
        else render_html(made)
        if form == "html"
        else render_markdown(made)
    )
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
