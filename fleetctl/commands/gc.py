"""`fleetctl gc`: delete unused adapter versions, served copies and old answers."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fleet.errors import FleetError
    from fleet.maintenance import RetainedVersions, RetentionDecision
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl gc --dry-run
  fleetctl gc --yes
  fleetctl gc --dry-run --format json
"""
)
@click.option(
    "--dry-run", is_flag=True, help="Show what would be deleted, and why the rest is kept."
)
@click.option("--yes", is_flag=True, help="Delete without confirmation.")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(workspace: "Workspace", *, dry_run: bool, yes: bool, form: str) -> None:
    """Delete unused adapter versions, served copies and old evaluation answers.

    Kept are declared and newer versions, versions with traffic or loaded on a server, and at
    least 3 earlier versions for a rollback. Nothing is unloaded, and nothing is deleted while
    a server does not answer.
    """
    import asyncio

    if not (dry_run or yes) and (form == "json" or not sys.stdin.isatty()):
        raise click.UsageError(
            "Not a terminal: pass --yes to delete without confirmation, or --dry-run."
        )
    found, answers = asyncio.run(_judge(workspace)), _answers(workspace)
    sizes = _sizes(workspace, found, answers)
    due = [each for each in _all(found, answers) if not each.needed]
    if form == "text":
        _tell(found, answers, sizes, all_of_it=dry_run)
    if not dry_run and due:
        if not yes and not click.confirm(f"Delete {_counted(found, answers)} for ever?", err=True):
            click.echo("Nothing was deleted.", err=True)
            return
        _delete(workspace, found, answers)
    if form == "json":
        click.echo(json.dumps(_document(found, answers, sizes, deleted=not dry_run), indent=2))
    elif not dry_run and due:
        freed = sum(sizes[each.name] for each in due)
        click.echo(f"Deleted {_counted(found, answers)}, {freed / 2**20:.1f} MiB.")
        if any(not each.needed for each in found.versions):
            click.echo("fleet.lock has changed: commit it.", err=True)


async def _judge(workspace: "Workspace") -> "RetainedVersions":
    """Observe and decide.

    Raises:
        FleetError: FC4022, something is not known.
    """
    from fleet.maintenance import retained
    from runtime.gateway.control import LocalGateways
    from runtime.library.delete import copies
    from runtime.observe import doubts, in_flight, observe

    gateways = LocalGateways(workspace.state_dir, workspace.fleet().gateways, workspace.envoys())
    try:
        async with workspace.connected() as (engines, _):
            live = await observe(engines, gateways)
        unsure = await doubts(live, gateways, workspace.state_dir, workspace.fleet().hosts)
        if unsure:
            raise _unsure(unsure)
        busy = await in_flight(gateways)
    finally:
        await gateways.close()
    present = copies(workspace.state_dir / "store")
    history = workspace.history()
    return retained(workspace.fleet(), live, history, workspace.now(), copies=present, busy=busy)


def _answers(workspace: "Workspace") -> "tuple[RetentionDecision, ...]":
    """Decide which evaluations keep their answers."""
    from fleet.maintenance import kept_answers
    from runtime.evals.store import EvalStore

    fleet, stored = workspace.fleet(), EvalStore(workspace.state_dir / "evals").stored()
    entries = workspace.ledger().read() if stored else []
    return kept_answers(stored, entries, fleet.versions, workspace.now(), fleet.evals.keep)


def _unsure(doubts: "tuple[str, ...]") -> "FleetError":
    from fleet.errors import EngineError, problem

    return EngineError(
        problem(
            "FC4022",
            "Not everything is known, so nothing is deleted",
            " ".join(f"{each}." for each in doubts),
            hint="A deleted folder can end a server for every client. Restart or stop the "
            "servers that do not answer, then run the command again.",
            command="fleetctl status",
        )
    )


def _delete(
    workspace: "Workspace", seen: "RetainedVersions", old: "tuple[RetentionDecision, ...]"
) -> None:
    """Delete under the lease what a second look still finds unneeded."""
    import asyncio

    from fleet.names import AdapterName
    from runtime.evals.store import EvalStore
    from runtime.library.delete import clear, remove_copy, remove_version

    store, ledger = workspace.state_dir / "store", workspace.ledger()
    agreed = {each.name for each in _all(seen, old) if not each.needed}
    with ledger.lease(f"{workspace.by} (run {workspace.run}, gc)") as lease:
        now = asyncio.run(_judge(workspace))
        versions = [each.name for each in now.versions if not each.needed and each.name in agreed]
        copies = [each.name for each in now.copies if not each.needed and each.name in agreed]
        runs = [
            each.name for each in _answers(workspace) if not each.needed and each.name in agreed
        ]
        record = {"versions": versions, "copies": copies, "evaluations": runs}
        ledger.append("collected", [record], lease.token)
        EvalStore(workspace.state_dir / "evals").remove(runs)
        clear([store, *(workspace.library / "adapters").glob("*")])
        for digest in copies:  # copies first: from them servers load
            remove_copy(store, digest)
            lease.renew()
        for name in versions:
            remove_version(workspace.library, workspace.root, AdapterName.parse(name))
            click.echo(f"Deleted {name}.", err=True)
            lease.renew()


def _sizes(
    workspace: "Workspace", found: "RetainedVersions", answers: "tuple[RetentionDecision, ...]"
) -> dict[str, int]:
    from fleet.names import AdapterName
    from runtime.evals.store import EvalStore
    from runtime.library.delete import size
    from runtime.library.layout import version_folder

    library, store = workspace.library, workspace.state_dir / "store"
    kept = EvalStore(workspace.state_dir / "evals")
    return {
        **{
            each.name: size(version_folder(library, AdapterName.parse(each.name)))
            for each in found.versions
        },
        **{each.name: size(store / each.name) for each in found.copies},
        **{each.name: kept.size(each.name) for each in answers},
    }


def _tell(
    found: "RetainedVersions",
    answers: "tuple[RetentionDecision, ...]",
    sizes: dict[str, int],
    *,
    all_of_it: bool,
) -> None:
    for title, group in (("version", found.versions), ("served copy", found.copies)):
        for each in group:
            if all_of_it or not each.needed:
                word = "stays" if each.needed else "goes "
                name = each.name[:12] if title == "served copy" else each.name
                click.echo(f"{word}  {title} {name}  {_kib(sizes[each.name])}  {each.why}")
    _tell_answers(answers, sizes, all_of_it=all_of_it)
    if all(each.needed for each in _all(found, answers)):
        click.echo("Nothing to delete.", err=True)


def _tell_answers(
    answers: "tuple[RetentionDecision, ...]", sizes: dict[str, int], *, all_of_it: bool
) -> None:
    """Tell of each reason how many evaluations there are: there may be thousands."""
    from plans.amounts import counted

    groups: dict[tuple[bool, str], list[str]] = {}
    for each in answers:
        groups.setdefault((each.needed, each.why), []).append(each.name)
    for (needed, why), names in groups.items():
        if all_of_it or not needed:
            word, size = "stays" if needed else "goes ", sum(sizes[each] for each in names)
            told = f"answers of {counted(len(names), 'evaluation')}"
            click.echo(f"{word}  {told}  {_kib(size)}  {why}")


def _kib(size: int) -> str:
    return f"{size / 1024:8.0f} KiB"


def _all(
    found: "RetainedVersions", answers: "tuple[RetentionDecision, ...]"
) -> "list[RetentionDecision]":
    return [*found.versions, *found.copies, *answers]


def _counted(found: "RetainedVersions", answers: "tuple[RetentionDecision, ...]") -> str:
    from plans.amounts import counted

    versions = sum(not each.needed for each in found.versions)
    copies = sum(not each.needed for each in found.copies)
    served = "served copy" if copies == 1 else "served copies"
    runs = sum(not each.needed for each in answers)
    also = f" and the answers of {counted(runs, 'evaluation')}" if runs else ""
    if not versions and not copies:
        return also.removeprefix(" and ")
    return f"{counted(versions, 'version')} and {copies} {served}{also}"


def _document(
    found: "RetainedVersions",
    answers: "tuple[RetentionDecision, ...]",
    sizes: dict[str, int],
    *,
    deleted: bool,
) -> dict[str, Any]:
    def plain(each: "RetentionDecision") -> dict[str, Any]:
        return {**asdict(each), "bytes": sizes[each.name]}

    return {
        "format": "fleetctl-gc",
        "format_version": "1.0",
        "deleted": deleted,
        "versions": [plain(each) for each in found.versions],
        "copies": [plain(each) for each in found.copies],
        "evaluations": [plain(each) for each in answers],
    }
