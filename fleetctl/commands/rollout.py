"""`fleetctl rollout`: show, hold, pause, approve, advance, extend or abort rollouts."""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl import completion
from fleetctl.options import duration, moment

if TYPE_CHECKING:
    from fleetctl.session import Session

_FORMAT = click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
_REASON = click.option("--reason", default="", metavar="TEXT", help="Reason, for the ledger.")


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
    """Show rollouts; hold, pause, approve, advance, extend or abort one.

    Marks are written to the ledger and hold for the declared version; the next apply or
    reconcile acts on them.
    """


@command.command(
    "list",
    epilog="""\b
Examples:
  fleetctl rollout list
  fleetctl rollout list --all --format json
""",
)
@click.option("--all", "every", is_flag=True, help="Include aliases without a rollout.")
@_FORMAT
@click.pass_obj
def list_(session: "Session", *, every: bool, form: str) -> None:
    """List rollouts in progress or waiting, with their gates."""
    from fleetctl.rollouts import rollouts
    from plans.reports.rollouts import active, render_list

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
def status(session: "Session", alias: str, form: str) -> None:
    """Show one rollout in full: stage, gates with reasons, conditions not met."""
    from fleetctl.rollouts import one
    from plans.reports.rollouts import render_one

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
def hold(session: "Session", alias: str, reason: str, form: str) -> None:
    """Keep the version at its share until `resume`. A gate that fails still rolls back."""
    from fleetctl.rollouts import mark

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
@click.option(
    "--for", "length", metavar="DURATION", callback=duration, help="Duration, such as 4h or 3d."
)
@click.option(
    "--until", metavar="TIME", callback=moment, help="Time in ISO 8601; UTC without a zone."
)
@_REASON
@_FORMAT
@click.pass_obj
def pause(
    session: "Session",
    alias: str,
    length: timedelta | None,
    until: datetime | None,
    reason: str,
    form: str,
) -> None:
    """Let no stage advance for a while; the pause ends by time, or with `resume`.

    Gates are judged meanwhile, and a gate that fails still rolls back. A later pause replaces an
    earlier one. To wait for a person, use `hold`.
    """
    from fleetctl.rollouts import pause as pause_rollout

    if (length is None) == (until is None):
        raise click.UsageError("Pass --for DURATION or --until TIME.")
    pause_rollout(session, alias, length, until, reason, form)


@command.command("resume", epilog="\b\nExamples:\n  fleetctl rollout resume acme-support")
@click.argument("alias", shell_complete=completion.aliases)
@_REASON
@_FORMAT
@click.pass_obj
def resume(session: "Session", alias: str, reason: str, form: str) -> None:
    """Lift a hold, and end a pause."""
    from fleetctl.rollouts import mark

    mark(session, alias, "resume", reason, form, "goes on when its stage allows")


@command.command("approve", epilog="\b\nExamples:\n  fleetctl rollout approve acme-support")
@click.argument("alias", shell_complete=completion.aliases)
@_REASON
@_FORMAT
@click.pass_obj
def approve(session: "Session", alias: str, reason: str, form: str) -> None:
    """Let the version leave this stage, after its bake, with inconclusive gates.

    A gate that failed is not inconclusive: declare an override for that.
    """
    from fleetctl.rollouts import mark

    mark(session, alias, "approve", reason, form, "leaves this stage when it has baked")


@command.command("extend", epilog="\b\nExamples:\n  fleetctl rollout extend acme-support")
@click.argument("alias", shell_complete=completion.aliases)
@_REASON
@_FORMAT
@click.pass_obj
def extend(session: "Session", alias: str, reason: str, form: str) -> None:
    """Give inconclusive gates of this stage its longest bake again, from now."""
    from fleet.errors import FleetError, problem
    from fleetctl.rollouts import mark, one

    found = one(session, alias)
    if not found["percent"]:
        raise FleetError(
            problem(
                "FC5137",
                "There is no stage to extend",
                f"{found['version']} of `{alias}` has no traffic yet, and a golden set says the "
                "same tomorrow.",
                hint="Start the rollout regardless, or abort it:",
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
@click.option("--reason", required=True, metavar="TEXT", help="Reason, for the ledger.")
@_FORMAT
@click.pass_obj
def advance(session: "Session", alias: str, reason: str, form: str) -> None:
    """Send the version to its next stage now, before bake and inconclusive gates end."""
    from fleetctl.rollouts import mark

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
def abort(session: "Session", alias: str, reason: str, form: str) -> None:
    """End the rollout: the previous version gets all traffic, now.

    Ends the version in progress, also if the declarations name another version by now, and
    after the cut-over while the previous version is loaded (`soaking`). A version that is still
    declared gets no traffic until `fleetctl release ALIAS`.
    """
    import asyncio

    from fleetctl.rollouts import mark

    found = mark(session, alias, "abort", reason, form, "gets no more traffic")
    if not found["percent"]:
        return
    sys.exit(asyncio.run(_taken_back(session, alias, reason, found["adapter"], form)))


async def _taken_back(session: "Session", alias: str, reason: str, adapter: str, form: str) -> int:
    from fleetctl.rolling_back import roll_back, tell_of

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
    help="(default: the version tried last)",
)
@click.option("--format", "form", type=click.Choice(["html", "json", "md"]), default="md")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@click.pass_obj
def report(
    session: "Session", alias: str, version: str | None, form: str, out: Path | None
) -> None:
    """Write a report for the client: versions, measurements and decisions of a rollout.

    Made from the ledger alone. Names no server, no person and no other client.
    """
    from fleetctl.rollouts import tried
    from plans.reports.client_report import document, render_html, render_markdown
    from runtime.files import write_text

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
