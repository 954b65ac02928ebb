"""`fleetctl history`, `drift`, `evidence`: read the ledger, compare with it, check it."""

import json
import re
import sys

import click

from fleet.errors import FleetError
from fleetctl import completion
from fleetctl.options import Command, Group, Workspace, choice_option, with_format
from fleetctl.output import print_problems

_VERDICTS = click.Choice(["PASS", "FAIL", "INCONCLUSIVE"], case_sensitive=False)


@click.command(cls=Command)
@click.argument(
    "about",
    required=False,
    default="",
    metavar="[RUN|ALIAS|ADDRESS]",
    shell_complete=completion.addresses,
)
@click.option("--limit", type=click.IntRange(min=0), default=20, help="Number of entries; 0 = all.")
@click.option("--steps", is_flag=True, help="Include single steps.")
@with_format
def history(workspace: Workspace, *, about: str, limit: int, steps: bool, form: str) -> None:
    """Show the ledger: applies, rollbacks, releases, adoptions. Checks its hash chain.

    Works without declarations and while an apply runs.

    Examples:
      fleetctl history
      fleetctl history acme-support --steps
      fleetctl history --limit 0 --format json
    """
    from plans.reports.history import chosen, render_json, render_text

    entries = chosen(workspace.ledger.open().read(), limit=limit or None, steps=steps, about=about)
    click.echo(render_json(entries) if form == "json" else render_text(entries, about), nl=False)


@click.command(cls=Command)
@choice_option(
    *("text", "json", "issues", "github", "sarif", "codequality"),
    help="issues: titles and bodies for a forge; github, sarif, codequality (GitLab): at the lines "
    "that declare what drifted.",
)
@click.option(
    "--ignore",
    "globs",
    multiple=True,
    metavar="ADDRESS-GLOB",
    help="Leave out addresses such as `adapter/*@llama_a`; repeatable.",
)
@click.pass_obj
def drift(workspace: Workspace, *, form: str, globs: tuple[str, ...]) -> None:
    """Compare the live state with the last apply: outages, then drift.

    Declared changes that are not applied yet are no drift; steps that an apply could not do are.
    Exit 2 on drift, 0 without; 1 without drift if a declaration is broken. Changes nothing.

    Examples:
      fleetctl drift
      fleetctl drift --format json
      fleetctl drift --format sarif > drift.sarif
      fleetctl drift --ignore 'adapter/test*@*'
    """
    from fleet.planning import without_ignored
    from plans.reports.drift import as_diagnostics, render_issues, render_json, render_text
    from runtime import event_loop
    from runtime.operations.change.planning import as_far_as_valid, drift_causes
    from runtime.operations.machines.outages import observe_faults, with_ledger

    workspace, exit_code = as_far_as_valid(workspace)
    known = workspace.ledger.last_known()
    live = with_ledger(workspace, event_loop.run(observe_faults(workspace)), known)
    history = known.history()
    drifts = drift_causes(workspace, live, history, known.standing())
    causes = without_ignored(drifts, globs)
    if form in ("text", "json"):
        render = render_json if form == "json" else render_text
        click.echo(render(causes, live.notes, history.freeze), nl=False)
    elif form == "issues":
        click.echo(render_issues(causes, workspace.project.fleet().name), nl=False)
    else:
        print_problems(form, as_diagnostics(causes, workspace.project.fleet()), workspace.root)
    sys.exit(2 if causes else exit_code)


@click.group(cls=Group)
def ledger() -> None:
    """Mend the ledger: put its verified local copy in the place of damaged lines.

    Example:
      fleetctl ledger restore
    """


@ledger.command("restore")
@click.pass_obj
def restore_ledger(workspace: Workspace) -> None:
    """Put the local copy, checked line by line, in the place of a damaged or lost ledger.

    Later lines that continue the copy's chain stay. The damaged file is kept beside the ledger.
    Changes nothing where the ledger is whole.

    Example:
      fleetctl ledger restore
    """
    from runtime.operations.state.state_backup import restore_ledger

    done = restore_ledger(workspace)
    if done is None:
        click.echo("The ledger is whole: nothing was changed.", err=True)
        return
    kept = f" The damaged file is {done.aside}." if done.aside else ""
    dropped = f" {done.dropped} lines at its end could not be kept." if done.dropped else ""
    click.echo(f"Restored {done.entries} entries from the local copy.{dropped}{kept}", err=True)


def _public_key(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    if given is None or re.fullmatch("[0-9a-f]{64}", given):
        return given
    raise click.BadParameter("a public key has 64 hex digits, as `fleetctl evidence key` prints it")


@click.group(cls=Group)
def evidence() -> None:
    """Show the verdicts of gates and check them.

    The ledger holds each verdict with the counts that the verdict follows from, chained by
    hashes to every entry before.

    Examples:
      fleetctl evidence list acme-support
      fleetctl evidence show 42
      fleetctl evidence verify
    """


@evidence.command("list")
@click.argument(
    "alias",
    required=False,
    default="",
    metavar="[ALIAS|VERSION]",
    shell_complete=completion.targets,
)
@click.option("--verdict", type=_VERDICTS, help="Only this verdict.")
@click.option("--limit", type=click.IntRange(0), default=50, help="Number of entries.")
@with_format
def list_evidence(
    workspace: Workspace, alias: str, verdict: str | None, limit: int, form: str
) -> None:
    """List verdicts of gates, oldest first. json: one per line.

    Examples:
      fleetctl evidence list
      fleetctl evidence list acme-support --verdict FAIL
      fleetctl evidence list --format json
    """
    from plans.reports.evidence import chosen, document, render_list

    entries = chosen(
        workspace.ledger.open().read(), alias=alias, verdict=(verdict or "").upper(), limit=limit
    )
    if form == "text":
        click.echo(render_list(entries), nl=False)
        return
    for entry in entries:
        click.echo(json.dumps(document(entry), sort_keys=True))


@evidence.command("show")
@click.argument("number", type=click.IntRange(1), metavar="ENTRY")
@with_format
def show_evidence(workspace: Workspace, number: int, form: str) -> None:
    """Show a verdict in full: figures, limits, counts, bytes.

    Examples:
      fleetctl evidence show 42
      fleetctl evidence show 42 --format json
    """
    from fleet.history import GateVerdict
    from plans.reports.evidence import document, render_one

    entry = next((entry for entry in workspace.ledger.open().read() if entry.seq == number), None)
    if entry is None or not isinstance(entry.event, GateVerdict):
        detail = f"Entry {number} of the ledger is no verdict of a gate."
        raise FleetError.of("FC5131", "No such evidence", detail, command="fleetctl evidence list")
    if form == "json":
        click.echo(json.dumps(document(entry), sort_keys=True, indent=2))
    else:
        click.echo(render_one(entry, entry.event), nl=False)


@evidence.command("key")
@click.option(
    "--accept",
    metavar="KEY",
    callback=_public_key,
    help="Public key of another machine, which may sign, too.",
)
@click.option("--replace", "is_replaced", is_flag=True, help="Make a new key, and end this one.")
@click.option("--lost", metavar="REASON", help="Begin anew with this machine's key.")
@with_format
def evidence_key(
    workspace: Workspace, accept: str | None, lost: str | None, form: str, *, is_replaced: bool
) -> None:
    """Show or change the keys that sign verdicts in the ledger.

    Without an option nothing changes. `--lost` is named by `evidence verify` for ever.

    Examples:
      fleetctl evidence key
      fleetctl evidence key --replace
      fleetctl evidence key --lost "the disk of gpu1 is gone"
    """
    from plans.reports.evidence import render_keys
    from runtime.operations.versions import evidence as keys

    if accept:
        keys.accept_key(workspace.ledger, accept)
    if is_replaced:
        keys.replace_key(workspace)
    if lost:
        keys.begin_anew(workspace.ledger, lost)
    document = keys.evidence_keys(workspace.ledger)
    click.echo(
        json.dumps(document, indent=2) + "\n" if form == "json" else render_keys(document), nl=False
    )


@evidence.command("verify")
@click.option("--head", metavar="HASH", help="Hash of an entry that must be in the chain.")
@with_format
def verify_evidence(workspace: Workspace, head: str | None, form: str) -> None:
    """Check the ledger's chain and every verdict, also by a recount. Exit 1 on a difference.

    Counts stored answers, and usage rows while they exist. A writer of the ledger can rewrite all
    of it: keep the last hash elsewhere, and pass that hash as --head.

    Examples:
      fleetctl evidence verify
      fleetctl evidence verify --head 5f0c…        # a hash that was kept elsewhere
      fleetctl evidence verify --format json
    """
    from plans.reports.evidence import render_unchecked, render_verified
    from runtime.operations.versions.evidence import PROBLEMS, verify_evidence

    document = verify_evidence(workspace, head)
    if form == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(render_verified(document), nl=False)
        click.echo(render_unchecked(document), nl=False, err=True)
    sys.exit(int(any(document[name] for name in PROBLEMS)))
