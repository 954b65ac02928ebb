"""Choose the evaluations of a project: named, all, due, or at a URL."""

from collections.abc import Collection, Mapping, Sequence
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
from fleet.names import AdapterName, alias_of
from fleet.resources import State
from fleet.spec import FleetSpec
from runtime.files import read_plain
from runtime.secrets import read_secret
from runtime.trust import authorization, require_bound
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

    `names`: aliases or versions; none: every alias with a golden set. `asked`: `version`, `golden`
    and `purpose` of the command line. `place`: a URL, and its key's reference; None: the fleet's
    servers. `due_only`: return the evaluations that are due, in place of `names`.

    Raises:
        FleetError: an unknown name, no golden set, a version that no server holds, or a key that
            cannot be read.
    """
    fleet = workspace.fleet()
    if place is not None:
        url, headers = place[0], _authorization(workspace.root, *place)
        golden: str = asked["golden"]
        purpose: Purpose = asked["purpose"] or "smoke"
        targets = (_target_at(url, headers, name, fleet) for name in names)
        return [EvalJob(target, golden, purpose, url) for target in targets], []
    live = workspace.observe()
    if due_only:
        return _jobs_due(workspace, live)
    served, heads = served_versions(live), answering(live)
    if names:
        return [_job_of(fleet, served, heads, name, **asked) for name in names], []
    jobs: list[EvalJob] = []
    notes: list[str] = []
    for name, adapter in fleet.adapters.items():
        if adapter.golden or asked["golden"]:
            try:
                jobs.append(_job_of(fleet, served, heads, name, **asked))
            except FleetError as error:
                notes.append(error.diagnostics[0].detail)
    return jobs, notes


def _authorization(root: Path, url: str, key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    require_bound(url, key)
    if secret := read_secret(root, key):
        return authorization(url, key, secret)
    detail = f"`{key}` cannot be read here."
    raise FleetError.of("FC6703", "No API key", detail, hint="Write env:NAME or file:path.")


def _target_at(url: str, headers: Mapping[str, str], name: str, fleet: FleetSpec) -> EvalTarget:
    """Return the target of requests to any served name at a URL."""
    try:
        alias = AdapterName.parse(name).alias
    except ValueError:
        alias = name
    digest = fleet.versions[name].digest if name in fleet.versions else ""
    return EvalTarget(url, name, name, digest, alias, headers, fixed=True)


def _job_of(
    fleet: FleetSpec,
    served: Mapping[str, ServedVersion],
    heads: Mapping[str, str],
    name: str,
    *,
    version: str | None,
    golden: str | None,
    purpose: Purpose | None,
) -> EvalJob:
    """Return the evaluation of an alias or a version. `heads`: by alias, the answering version."""
    alias, adapter = _version_of(fleet, name, version, heads)
    declared = fleet.adapters.get(alias)
    path = golden or (declared.golden if declared else None)
    if path is None:
        hint = "Declare `golden: golden/FILE.jsonl` on the adapter, or give --golden."
        raise FleetError.of("FC6701", "No golden set", f"`{alias}` declares none.", hint=hint)
    if adapter not in served:
        base = adapter.rpartition("-v")[0]
        held = [name for name in sorted(served) if name.rpartition("-v")[0] == base]
        also = f" Loaded of this adapter: {', '.join(held)}." if held else ""
        near = did_you_mean(adapter, sorted(served))
        detail = f"No reachable server holds `{adapter}`, so nothing can be asked of it.{also}"
        hint = near or "Declare it and apply: it is loaded before it gets any traffic."
        raise EvalError.of(
            "FC4507", "The version is not loaded", detail, hint=hint, command="fleetctl status"
        )
    purposes: dict[str | None, Purpose] = {}
    if declared is not None:
        purposes = {declared.rolling: "rolling", declared.golden: "anchor"}
    return _job(fleet, served[adapter], path, purpose or purposes.get(path, "smoke"))


def _job(fleet: FleetSpec, version: ServedVersion, golden: str, purpose: Purpose) -> EvalJob:
    locked, name = fleet.versions.get(version.adapter), version.adapter
    digest = version.digest or (locked.digest if locked else "")
    target = EvalTarget(version.url, name, name, digest, alias_of(name))
    return EvalJob(target, golden, purpose, version.engine)


def _jobs_due(workspace: Workspace, live: State) -> tuple[list[EvalJob], list[str]]:
    """Return the evaluations due now, and notes about versions that no reachable server holds."""
    fleet, served = workspace.fleet(), served_versions(live)
    serving = {
        alias: (fleet.adapters[alias], name, served[name].engine if name in served else "")
        for alias, name in answering(live).items()
        if alias in fleet.adapters
    }
    jobs: list[EvalJob] = []
    notes: list[str] = []
    past = eval_records(workspace.ledger().read())
    for due in due_evaluations(serving, past, fleet.evals.every, workspace.now()):
        if due.adapter in served:
            jobs.append(_job(fleet, served[due.adapter], due.golden, due.purpose))
        else:
            notes.append(f"{due.adapter} is due ({due.reason}), and no reachable server holds it")
    return jobs, notes


def _version_of(
    fleet: FleetSpec, name: str, version: str | None, heads: Mapping[str, str]
) -> tuple[str, str]:
    """Return alias and full version name of a name from the command line."""
    with suppress(ValueError):
        return AdapterName.parse(name).alias, name
    if name not in fleet.adapters:
        detail = f"`{name}` is neither declared nor the full name of a version."
        hint = did_you_mean(name, sorted(fleet.adapters))
        raise FleetError.of("FC5123", "No such alias", detail, hint=hint)
    declared = fleet.adapters[name].name
    if version is not None:
        return name, f"{declared.alias}-{declared.base}-v{version.removeprefix('v')}"
    return name, heads.get(name, str(declared))


def read_set(root: Path, path: str) -> GoldenSet:
    """Read a golden set; its name in errors is as given.

    Raises:
        ConfigError: with every bad line.
        FleetError: FC6702, there is no such file.
    """
    try:
        content = read_plain(root / path)
    except OSError as error:
        detail = f"`{path}` cannot be read: {error.strerror}."
        hint = "Paths are relative to the project."
        raise FleetError.of("FC6702", "No such golden set", detail, hint=hint) from None
    return read_golden_set(content, path)


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


def spec_for(workspace: Workspace, changes: Mapping[str, Any]) -> EvalSpec:
    """Return the declared way of asking sets, with the changes of a command line."""
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(eval_spec_of(workspace.fleet().evals), **given)


def read_evals(workspace: Workspace) -> dict[str, list[EvalRecord]]:
    """Return every evaluation in the ledger, by alias."""
    return eval_records(workspace.ledger().read())
