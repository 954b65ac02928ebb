"""Choose the evaluations of a project: named, all, due, or at a URL."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet.errors import EvalError, FleetError, did_you_mean
from fleet.evals import (
    DriftStatus,
    EvalRecord,
    EvalSpec,
    EvalTarget,
    GoldenSet,
    Purpose,
    QualityDrift,
    ServedVersion,
    answering,
    drifts,
    due_evaluations,
    eval_records,
    eval_spec_of,
    read_golden_set,
    served_versions,
)
from fleet.names import AdapterName
from fleet.resources import State
from fleet.spec import AdapterSpec
from runtime.secrets import read_secret
from runtime.workspace import Workspace


@dataclass(frozen=True, slots=True)
class EvalJob:
    """An evaluation to make."""

    target: EvalTarget
    golden: str
    """Path of the set, relative to the project."""
    purpose: Purpose
    serving: str
    """Engine and flags of the server that answers."""


def choose_jobs(
    workspace: Workspace,
    names: tuple[str, ...],
    asked: Any,
    place: tuple[str, str | None] | None,
    *,
    due_only: bool,
) -> tuple[list[EvalJob], list[str]]:
    """Return the evaluations to make, and notes about those that cannot be made.

    Args:
        workspace: The project.
        names: Aliases or versions; none: every alias with a golden set.
        asked: `version`, `golden` and `purpose` of the command line.
        place: A URL, and its key's reference; None: the fleet's servers.
        due_only: Whether to return the evaluations that are due.
    """
    if place is not None:
        golden, purpose = asked["golden"], asked["purpose"]
        return [_job_at_url(workspace, name, place, golden, purpose) for name in names], []
    live = workspace.observe()
    if due_only:
        return _jobs_due(workspace, live)
    if names:
        return list(_jobs_of(workspace, live, names, **asked)), []
    return _all_jobs(workspace, live, **asked)


def read_set(root: Path, path: str) -> GoldenSet:
    """Read a golden set; its name in errors is as given.

    Raises:
        ConfigError: with every bad line.
        FleetError: FC6702, there is no such file.
    """
    try:
        content = (root / path).read_bytes()
    except OSError as error:
        detail = f"`{path}` cannot be read: {error.strerror}."
        hint = "Paths are relative to the project."
        raise FleetError.of("FC6702", "No such golden set", detail, hint=hint) from None
    return read_golden_set(content, path)


def _jobs_of(
    workspace: Workspace,
    live: State,
    names: Sequence[str],
    *,
    version: str | None,
    golden: str | None,
    purpose: Purpose | None,
) -> Iterator[EvalJob]:
    """Yield the evaluations of aliases or versions.

    Raises:
        FleetError: an unknown name, no golden set, or a version that no server holds.
    """
    fleet = workspace.fleet()
    at, heads = served_versions(live), answering(live)
    for name in names:
        alias, adapter = _chosen(workspace, name, version, heads)
        declared = fleet.adapters.get(alias)
        path = golden or (declared.golden if declared else None)
        if path is None:
            raise FleetError.of(
                "FC6701",
                "No golden set",
                f"`{alias}` declares none.",
                hint="Declare `golden: golden/FILE.jsonl` on the adapter, or give --golden.",
            )
        why = purpose or _purpose(path, declared.golden if declared else None, declared)
        found = at.get(adapter)
        if found is None:
            raise _not_served(adapter, at)
        yield EvalJob(_target_of(workspace, found), path, why, found.engine)


def _all_jobs(workspace: Workspace, live: State, **asked: Any) -> tuple[list[EvalJob], list[str]]:
    """Return evaluations of all aliases with a golden set, and notes about those that cannot be."""
    found: list[EvalJob] = []
    notes: list[str] = []
    for name, adapter in workspace.fleet().adapters.items():
        if adapter.golden or asked.get("golden"):
            try:
                found += _jobs_of(workspace, live, [name], **asked)
            except FleetError as error:
                notes.append(error.diagnostics[0].detail)
    return found, notes


def _job_at_url(
    workspace: Workspace,
    name: str,
    place: tuple[str, str | None],
    golden: str,
    purpose: Purpose | None,
) -> EvalJob:
    """Return an evaluation of any served name at a place: a URL, and its key's reference.

    Raises:
        FleetError: FC6703, the key cannot be read.
    """
    url, key = place
    headers = {}
    if key is not None:
        secret = read_secret(workspace.root, key)
        if not secret:
            detail = f"`{key}` cannot be read here."
            raise FleetError.of("FC6703", "No API key", detail, hint="Write env:NAME or file:path.")
        headers = {"Authorization": f"Bearer {secret}"}
    locked = workspace.fleet().versions.get(name)
    try:
        alias = AdapterName.parse(name).alias
    except ValueError:
        alias = name
    digest = locked.digest if locked else ""
    target = EvalTarget(url, name, name, digest, alias, headers, fixed=True)
    return EvalJob(target, golden, purpose or "smoke", url)


def drift_standings(
    past: Mapping[str, Sequence[EvalRecord]], live: State, wanted: Collection[DriftStatus]
) -> list[tuple[str, str, QualityDrift]]:
    """Return alias, version and finding of drift rules on serving versions, of wanted kinds."""
    return [
        (alias, adapter, drift)
        for alias, adapter in sorted(answering(live).items())
        for drift in drifts(past.get(alias, ()), adapter)
        if drift.standing in wanted
    ]


def _target_of(workspace: Workspace, found: ServedVersion) -> EvalTarget:
    locked = workspace.fleet().versions.get(found.adapter)
    digest = found.digest or (locked.digest if locked else "")
    alias = AdapterName.parse(found.adapter).alias
    return EvalTarget(found.url, found.adapter, found.adapter, digest, alias)


def _jobs_due(workspace: Workspace, live: State) -> tuple[list[EvalJob], list[str]]:
    """Return the evaluations due now, and notes about versions that no reachable server holds."""
    fleet = workspace.fleet()
    at, heads = served_versions(live), answering(live)
    serving = {
        alias: (fleet.adapters[alias], adapter, at[adapter].engine if adapter in at else "")
        for alias, adapter in heads.items()
        if alias in fleet.adapters
    }
    found: list[EvalJob] = []
    notes: list[str] = []
    past = eval_records(workspace.ledger().read())
    for due in due_evaluations(serving, past, fleet.evals.every, workspace.now()):
        where = at.get(due.adapter)
        if where is None:
            notes.append(f"{due.adapter} is due ({due.reason}), and no reachable server holds it")
            continue
        found.append(EvalJob(_target_of(workspace, where), due.golden, due.purpose, where.engine))
    return found, notes


def spec_for(workspace: Workspace, changes: Mapping[str, Any]) -> EvalSpec:
    """Return the declared way of asking sets, with the changes of a command line."""
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(eval_spec_of(workspace.fleet().evals), **given)


def read_evals(workspace: Workspace) -> dict[str, list[EvalRecord]]:
    """Return every evaluation in the ledger, by alias."""
    return eval_records(workspace.ledger().read())


def _chosen(
    workspace: Workspace, name: str, version: str | None, heads: Mapping[str, str]
) -> tuple[str, str]:
    """Return alias and full version name of a name from the command line."""
    fleet = workspace.fleet()
    with suppress(ValueError):
        return AdapterName.parse(name).alias, name
    if name not in fleet.adapters:
        raise FleetError.of(
            "FC5123",
            "No such alias",
            f"`{name}` is neither declared nor the full name of a version.",
            hint=did_you_mean(name, sorted(fleet.adapters)),
        )
    declared = fleet.adapters[name].name
    if version is not None:
        return name, f"{declared.alias}-{declared.base}-v{version.removeprefix('v')}"
    return name, heads.get(name, str(declared))


def _purpose(path: str, golden: str | None, declared: AdapterSpec | None) -> Purpose:
    if path == golden:
        return "anchor"
    return "rolling" if declared is not None and path == declared.rolling else "smoke"


def _not_served(adapter: str, at: Mapping[str, ServedVersion]) -> EvalError:
    near = did_you_mean(adapter, sorted(at))
    held = [name for name in sorted(at) if name.rpartition("-v")[0] == adapter.rpartition("-v")[0]]
    also = f" Loaded of this adapter: {', '.join(held)}." if held else ""
    return EvalError.of(
        "FC4507",
        "The version is not loaded",
        f"No reachable server holds `{adapter}`, so nothing can be asked of it.{also}",
        hint=near or "Declare it and apply: it is loaded before it gets any traffic.",
        command="fleetctl status",
    )
