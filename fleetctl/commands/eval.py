"""`fleetctl eval`: evaluate served versions on golden sets; list the results."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetctl import completion

if TYPE_CHECKING:
    from fleet.evals import Purpose
    from runtime.workspace import Workspace

PURPOSES = ("gate", "anchor", "rolling", "smoke", "aa")
DRIFTED = 2
_ALIAS = click.argument("alias", required=False, shell_complete=completion.aliases)
_FORMAT = click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")


@click.group(
    name="eval",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl eval run acme-support
  fleetctl eval run --due
  fleetctl eval list acme-support
  fleetctl eval drift
""",
)
def command() -> None:
    """Evaluate served versions on golden sets; list and compare the results.

    A golden set is a file of JSON lines, such as
    {"id": "t-1", "input": "No rush. ...", "expected": "queue=shipping", "metric": "exact"}.
    """


@command.command(
    "run",
    epilog="""\b
Examples:
  fleetctl eval run acme-support
  fleetctl eval run acme-support --version 2.3.0 --golden golden/returns.jsonl
  fleetctl eval run --all --samples 5 --temperature 0.7
  fleetctl eval run --due --format json
  fleetctl eval run acme-support --through gateway
  fleetctl eval run tiny --url http://127.0.0.1:8100 --golden golden/support.jsonl
""",
)
@click.argument("names", nargs=-1, metavar="[ALIAS|VERSION]...", shell_complete=completion.targets)
@click.option("--all", "every", is_flag=True, help="Evaluate each alias that has a golden set.")
@click.option("--due", "due_only", is_flag=True, help="Evaluate aliases that are due.")
@click.option(
    "--version", shell_complete=completion.numbers, help="(default: the version with traffic)"
)
@click.option("--golden", metavar="FILE", help="Golden set (default: the declared one).")
@click.option("--url", metavar="URL", help="Evaluate any model name that this URL serves.")
@click.option("--key", metavar="REF", help="With --url: API key, as env:NAME or file:PATH.")
@click.option("--purpose", type=click.Choice(PURPOSES), help="(default: from the golden set)")
@click.option("--engine", metavar="NAME", help="native, inspect, lm_eval or command.")
@click.option("--samples", type=click.IntRange(1, 100), help="Answers per item.")
@click.option("--temperature", type=click.FloatRange(0, 5), help="Temperature; 0 = greedy.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Concurrent requests.")
@click.option("--through", type=click.Choice(["gateway", "server"]), help="Receiver of requests.")
@click.option("--max-missing", type=click.IntRange(0), help="Items that may stay unanswered.")
@_FORMAT
@click.pass_obj
def run(
    workspace: "Workspace",
    /,
    names: tuple[str, ...],
    form: str,
    *,
    every: bool,
    due_only: bool,
    version: str | None,
    golden: str | None,
    purpose: "Purpose | None",
    url: str | None,
    key: str | None,
    through: str | None,
    **how: Any,
) -> None:
    """Evaluate versions on their golden sets, on a server or through a gateway.

    Settings default to those of `evals` in the declarations. Results go into the ledger,
    answers into the state folder, figures into the library. Exit 1 when an evaluation is
    not valid; with --due, exit 2 on drift.
    """
    import asyncio

    from plans.reports.evals import drift_table, table
    from runtime.operations.eval_jobs import choose_jobs, read_evals, spec_for
    from runtime.operations.evaluate import run_all
    from runtime.operations.notifications import notify_all_open

    if bool(names) + every + due_only != 1:
        raise click.UsageError("Name aliases or versions, or pass --all or --due.")
    if version and len(names) != 1:
        raise click.UsageError("--version needs exactly one alias.")
    if url is not None and through is not None:
        raise click.UsageError("--url names the receiver: omit --through.")
    if url is not None and not (names and golden):
        raise click.UsageError("--url needs names and --golden.")
    asked = {"version": version, "golden": golden, "purpose": purpose}
    place = (url, key) if url is not None else None
    todo, notes = choose_jobs(workspace, names, asked, place, due_only=due_only)
    for note in notes:
        click.echo(f"Warning: {note}", err=True)
    done, failed = run_all(
        workspace, todo, spec_for(workspace, how), through or "", quiet=form == "json"
    )
    past = read_evals(workspace)
    aliases = {each.target.alias: each.target.adapter for each in todo}
    drifted = _drifts(past, aliases) if due_only else []
    if due_only:
        asyncio.run(notify_all_open(workspace, workspace.observe(), "drifted"))
    if form == "json":
        document = {"evaluations": done, "drift": drifted, "failed": failed, "notes": notes}
        click.echo(json.dumps(document, indent=2))
    elif done:
        click.echo(table(done) + (drift_table(drifted) if drifted else ""), nl=False)
    elif not failed:
        click.echo("Nothing is due." if due_only else "Nothing to evaluate.", err=True)
    alarmed = any(each["standing"] in {"serving", "retrain"} for each in drifted)
    sys.exit(1 if failed or notes else DRIFTED if alarmed else 0)


@command.command(
    "list",
    epilog="""\b
Examples:
  fleetctl eval list
  fleetctl eval list acme-support --limit 0 --format json
""",
)
@_ALIAS
@click.option("--limit", type=click.IntRange(min=0), default=20, help="Number of entries; 0 = all.")
@_FORMAT
@click.pass_obj
def list_runs(workspace: "Workspace", alias: str | None, limit: int, form: str) -> None:
    """List the evaluations in the ledger, oldest first. Needs no declarations."""
    from plans.reports.evals import row, table
    from runtime.operations.eval_jobs import read_evals
    from runtime.operations.evaluate import evals_of

    past = evals_of(workspace, read_evals(workspace), alias)
    found = [each for runs in past.values() for each in runs]
    found.sort(key=lambda each: each.at)
    rows = [row(each) for each in found[-limit:]]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(table(rows), nl=False)
    else:
        click.echo("No evaluations yet. Make one: fleetctl eval run ALIAS", err=True)


@command.command(
    "show",
    epilog="""\b
Examples:
  fleetctl eval show 4f1c
  fleetctl eval show 4f1c2ab09d3e --wrong 0 --format json
""",
)
@click.argument("run_id", metavar="RUN")
@click.option(
    "--wrong", type=click.IntRange(min=0), default=10, help="Number of wrong answers; 0 = all."
)
@_FORMAT
@click.pass_obj
def show(workspace: "Workspace", run_id: str, wrong: int, form: str) -> None:
    """Show one evaluation with its wrong answers. RUN may be the beginning of an id."""
    from plans.reports.evals import page, page_text
    from runtime.evals.store import EvalStore

    store = EvalStore(workspace.state_dir / "evals")
    document = page(store.read(store.named(run_id)), wrong or None)
    shown = json.dumps(document, indent=2) + "\n" if form == "json" else page_text(document)
    click.echo(shown, nl=False)


@command.command(
    "drift",
    epilog="""\b
Examples:
  fleetctl eval drift
  fleetctl eval drift acme-support --format json
""",
)
@_ALIAS
@_FORMAT
@click.pass_obj
def drift(workspace: "Workspace", alias: str | None, form: str) -> None:
    """Apply the drift rules to the evaluations in the ledger. Exit 2 on drift.

    serving: answers to the frozen set changed. retrain: fresh sets score lower.
    watch: two low fresh sets in a row, or a version that began below the best one before.
    """
    from plans.reports.evals import drift_table
    from runtime.operations.eval_jobs import read_evals
    from runtime.operations.evaluate import evals_of

    past = evals_of(workspace, read_evals(workspace), alias)
    aliases = {
        name: watched[-1].adapter
        for name, runs in past.items()
        if (watched := [each for each in runs if each.purpose in {"anchor", "rolling"}])
    }
    rows = _drifts(past, aliases)
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(drift_table(rows), nl=False)
    else:
        click.echo("No drift to judge yet: a version needs two evaluations.", err=True)
    sys.exit(DRIFTED if any(each["standing"] in {"serving", "retrain"} for each in rows) else 0)


def _drifts(past: Any, adapters: dict[str, str]) -> list[dict[str, Any]]:
    from fleet.evals import drifts
    from plans.reports.evals import drift_row

    return [
        drift_row(alias, adapter, each)
        for alias, adapter in sorted(adapters.items())
        for each in drifts(past.get(alias, ()), adapter)
    ]


@command.command(
    "import",
    epilog="""\b
Examples:
  fleetctl eval import samples_acme.jsonl --from lm-eval --as acme-support-tiny-v2.1.0
  fleetctl eval import logs/acme.eval --from inspect --as acme-support-tiny-v2.1.0
""",
)
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--from", "source", type=click.Choice(["inspect", "lm-eval"]), required=True)
@click.option(
    "--as", "name", required=True, shell_complete=completion.versions, help="Version that answered."
)
@click.option("--purpose", type=click.Choice(PURPOSES), default="rolling", show_default=True)
@click.option(
    "--filter", "chosen", default="", help="Filter of lm-eval to import, if the file has several."
)
@_FORMAT
@click.pass_obj
def import_results(
    workspace: "Workspace",
    path: Path,
    source: str,
    name: str,
    purpose: "Purpose",
    chosen: str,
    form: str,
) -> None:
    """Import results that lm-eval or inspect-ai has written.

    lm-eval: the file of samples (`--log_samples`). inspect-ai: a log, `.eval` or `.json`.
    An unfinished, truncated or partly unscored log is refused.
    """
    from plans.reports.evals import table
    from runtime.operations.evaluate import import_results as import_into

    if chosen and source != "lm-eval":
        raise click.UsageError("--filter needs --from lm-eval.")
    entry = import_into(workspace, path, source, name, purpose, chosen)
    row = {**entry, "finished": workspace.now().isoformat(timespec="seconds")}
    click.echo(json.dumps(row, indent=2) + "\n" if form == "json" else table([row]), nl=False)


@command.command(
    "judge",
    epilog="\b\nExamples:\n  fleetctl eval judge golden/acme.labels.jsonl --client acme",
)
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--client", required=True, shell_complete=completion.clients, help="Client of the answers."
)
@_FORMAT
@click.pass_obj
def judge(workspace: "Workspace", path: Path, client: str, form: str) -> None:
    """Compare the declared judge with people's labels. Exit 2 on low agreement.

    Each line of PATH is a golden item with `answer` and `label` (yes or no):
    {"id": "l-1", "input": "...", "expected": "...", "answer": "...", "label": "yes"}.
    """
    from plans.reports.evals import judge_text
    from runtime.operations.evaluate import compare_judge

    found = compare_judge(workspace, path, client, quiet=form == "json")
    shown = json.dumps(found, indent=2) + "\n" if form == "json" else judge_text(found)
    click.echo(shown, nl=False)
    sys.exit(0 if found["decides"] else DRIFTED)
