"""`fleetctl eval`: evaluate served versions on golden sets; list the results."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetctl import completion
from fleetctl.options import EXISTING_FILE, Call, Group, KeyReference, Workspace, with_format
from fleetctl.output import print_lines, print_result

if TYPE_CHECKING:
    from fleet.evals import Purpose

PURPOSES = ("gate", "anchor", "rolling", "smoke", "aa")
_alias_argument = click.argument("alias", required=False, shell_complete=completion.aliases)


@click.group(cls=Group)
def command() -> None:
    """Evaluate served versions on golden sets; list and compare the results.

    A golden set is a file of JSON lines, such as
    {"id": "t-1", "input": "No rush. ...", "expected": "queue=shipping", "metric": "exact"}.

    Examples:
      fleetctl eval run acme-support
      fleetctl eval run --due
      fleetctl eval list acme-support
      fleetctl eval drift
    """


@command.command()
@click.argument("names", nargs=-1, metavar="[ALIAS|VERSION]...", shell_complete=completion.targets)
@click.option("--all", "every", is_flag=True, help="Evaluate each alias that has a golden set.")
@click.option("--due", "due_only", is_flag=True, help="Evaluate aliases that are due.")
@click.option(
    "--version", shell_complete=completion.numbers, help="(default: the version with traffic)"
)
@click.option("--golden", metavar="FILE", help="Golden set (default: the declared one).")
@click.option("--url", metavar="URL", help="Evaluate any model name that this URL serves.")
@click.option(
    "--key",
    metavar="REF",
    type=KeyReference(),
    help="With --url: API key, as env:NAME or file:PATH.",
)
@click.option("--purpose", type=click.Choice(PURPOSES), help="(default: from the golden set)")
@click.option("--engine", metavar="NAME", help="native, inspect, lm_eval or command.")
@click.option("--samples", type=click.IntRange(1, 100), help="Answers per item.")
@click.option("--temperature", type=click.FloatRange(0, 5), help="Temperature; 0 = greedy.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Concurrent requests.")
@click.option("--through", type=click.Choice(["gateway", "server"]), help="Receiver of requests.")
@click.option("--max-missing", type=click.IntRange(0), help="Items that may stay unanswered.")
@with_format
def run(
    workspace: Workspace,
    /,
    names: tuple[str, ...],
    form: str,
    *,
    every: bool,
    due_only: bool,
    url: str | None,
    key: str | None,
    through: str | None,
    **settings: Any,
) -> None:
    """Evaluate versions on their golden sets, on a server or through a gateway.

    Settings default to those of `evals` in the declarations. Results go into the ledger,
    answers into the state folder, figures into the library. Exit 1 when an evaluation is
    not valid; with --due, exit 2 on drift.

    Examples:
      fleetctl eval run acme-support
      fleetctl eval run acme-support --version 2.3.0 --golden golden/returns.jsonl
      fleetctl eval run --all --samples 5 --temperature 0.7
      fleetctl eval run --due --format json
      fleetctl eval run acme-support --through gateway
      fleetctl eval run tiny --url http://127.0.0.1:8100 --golden golden/support.jsonl
    """
    import asyncio

    from plans.reports.versions import drift_table, table
    from runtime.operations.versions.evaluate import choose_jobs, read_evals, run_all, spec_for
    from runtime.operations.watch.notifications import notify_all_open

    selection = {name: settings.pop(name) for name in ("version", "golden", "purpose")}
    if bool(names) + every + due_only != 1:
        raise click.UsageError("Name aliases or versions, or pass --all or --due.")
    _require_consistent(names, selection, url, through)
    place = (url, key) if url is not None else None
    jobs, notes = choose_jobs(workspace, names, selection, place, due_only=due_only)
    print_lines(notes)
    spec = spec_for(workspace.project, settings)
    done, failed = run_all(workspace, jobs, spec, through or "", quiet=form == "json")
    drifts = []
    if due_only:
        adapters = {job.target.alias: job.target.adapter for job in jobs}
        drifts = _drifts(read_evals(workspace.ledger), adapters)
        asyncio.run(notify_all_open(workspace, workspace.machines.observe(), "drifted"))
    document = {"evaluations": done, "drift": drifts, "failed": failed, "notes": notes}
    if form == "json" or done:
        print_result(
            form, document, lambda _: table(done) + (drift_table(drifts) if drifts else "")
        )
    elif not failed:
        click.echo("Nothing is due." if due_only else "Nothing to evaluate.", err=True)
    sys.exit(1 if failed or notes else _exit_code(drifts))


def _require_consistent(
    names: tuple[str, ...], selection: dict[str, Any], url: str | None, through: str | None
) -> None:
    """Raise a usage error where an option of `eval run` excludes another."""
    if selection["version"] and len(names) != 1:
        raise click.UsageError("--version needs exactly one alias.")
    if url is not None and through is not None:
        raise click.UsageError("--url names the receiver: omit --through.")
    if url is not None and not (names and selection["golden"]):
        raise click.UsageError("--url needs names and --golden.")


@command.command("list")
@_alias_argument
@click.option("--limit", type=click.IntRange(min=0), default=20, help="Number of entries; 0 = all.")
@with_format
def list_runs(workspace: Workspace, alias: str | None, limit: int, form: str) -> None:
    """List the evaluations in the ledger, oldest first. Needs no declarations.

    Examples:
      fleetctl eval list
      fleetctl eval list acme-support --limit 0 --format json
    """
    from plans.reports.versions import row, table
    from runtime.operations.versions.evaluate import evals_of, read_evals

    past = evals_of(workspace.project, read_evals(workspace.ledger), alias)
    runs = sorted((run for runs in past.values() for run in runs), key=lambda run: run.at)
    rows = [row(run) for run in runs[-limit:]]
    print_result(form, rows, table, "No evaluations yet. Make one: fleetctl eval run ALIAS")


@command.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--wrong", type=click.IntRange(min=0), default=10, help="Number of wrong answers; 0 = all."
)
@with_format
def show(call: Call, run_id: str, wrong: int, form: str) -> None:
    """Show an evaluation with its wrong answers. RUN may be the beginning of an id.

    Examples:
      fleetctl eval show 4f1c
      fleetctl eval show 4f1c2ab09d3e --wrong 0 --format json
    """
    from plans.reports.versions import page, page_text
    from runtime.evals.store import EvalStore

    store = EvalStore(call.state_dir / "evals")
    print_result(form, page(store.read(store.named(run_id)), wrong or None), page_text)


@command.command()
@_alias_argument
@with_format
def drift(workspace: Workspace, alias: str | None, form: str) -> None:
    """Apply the drift rules to the evaluations in the ledger. Exit 2 on drift.

    serving: answers to the frozen set changed. retrain: fresh sets score lower.
    watch: two low fresh sets in a row, or a version that began below the best one before.

    Examples:
      fleetctl eval drift
      fleetctl eval drift acme-support --format json
    """
    from plans.reports.versions import drift_table
    from runtime.operations.versions.evaluate import evals_of, read_evals

    past = evals_of(workspace.project, read_evals(workspace.ledger), alias)
    adapters = {
        name: run.adapter
        for name, runs in past.items()
        for run in runs  # the last one counts
        if run.purpose in {"anchor", "rolling"}
    }
    rows = _drifts(past, adapters)
    none = "No drift to judge yet: a version needs two evaluations."
    print_result(form, rows, drift_table, none)
    sys.exit(_exit_code(rows))


def _drifts(past: Mapping[str, Any], adapters: Mapping[str, str]) -> list[dict[str, Any]]:
    from fleet.evals import drifts
    from plans.reports.versions import drift_row

    return [
        drift_row(alias, adapter, finding)
        for alias, adapter in sorted(adapters.items())
        for finding in drifts(past.get(alias, ()), adapter)
    ]


def _exit_code(drifts: Iterable[Mapping[str, Any]]) -> int:
    return 2 if any(row["standing"] in {"serving", "retrain"} for row in drifts) else 0


@command.command("import")
@click.argument("path", type=EXISTING_FILE)
@click.option("--from", "source", type=click.Choice(["inspect", "lm-eval"]), required=True)
@click.option(
    "--as", "name", required=True, shell_complete=completion.versions, help="Version that answered."
)
@click.option("--purpose", type=click.Choice(PURPOSES), default="rolling")
@click.option("--filter", "chosen", help="Filter of lm-eval to import, if the file has several.")
@with_format
def import_results(
    workspace: Workspace,
    path: Path,
    source: str,
    name: str,
    purpose: "Purpose",
    chosen: str | None,
    form: str,
) -> None:
    """Import results that lm-eval or inspect-ai has written.

    lm-eval: the file of samples (`--log_samples`). inspect-ai: a log, `.eval` or `.json`.
    An unfinished, truncated or partly unscored log is refused.

    Examples:
      fleetctl eval import samples_acme.jsonl --from lm-eval --as acme-support-tiny-v2.1.0
      fleetctl eval import logs/acme.eval --from inspect --as acme-support-tiny-v2.1.0
    """
    from plans.reports.versions import table
    from runtime.operations.versions import evaluate

    if chosen and source != "lm-eval":
        raise click.UsageError("--filter needs --from lm-eval.")
    entry = evaluate.import_results(workspace, path, source, name, purpose, chosen or "")
    row = {**entry, "finished": workspace.now().isoformat(timespec="seconds")}
    print_result(form, row, lambda row: table([row]))


@command.command()
@click.argument("path", type=EXISTING_FILE)
@click.option(
    "--client", required=True, shell_complete=completion.clients, help="Client of the answers."
)
@with_format
def judge(workspace: Workspace, path: Path, client: str, form: str) -> None:
    """Compare the declared judge with people's labels. Exit 2 on low agreement.

    Each line of PATH is a golden item with `answer` and `label` (yes or no):
    {"id": "l-1", "input": "...", "expected": "...", "answer": "...", "label": "yes"}.

    Examples:
      fleetctl eval judge golden/acme.labels.jsonl --client acme
    """
    from plans.reports.versions import judge_text
    from runtime.operations.versions.evaluate import compare_judge

    agreement = compare_judge(workspace, path, client, quiet=form == "json")
    print_result(form, agreement, judge_text)
    sys.exit(0 if agreement["decides"] else 2)
