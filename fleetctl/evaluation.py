"""The evaluations of a project, wired up: who is asked what, and where it is written down."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.errors import EvalError, FleetError, did_you_mean, problem
from fleet.evals import (
    DriftStatus,
    EvalRecord,
    EvalSpec,
    EvalTarget,
    Purpose,
    QualityDrift,
    ServedVersion,
    answering,
    drifts,
    due_evaluations,
    eval_records,
    eval_spec_of,
    floor,
    served_versions,
)
from fleet.names import AdapterName
from fleet.resources import State
from fleetctl.judging import office_of
from fleetctl.session import Session

if TYPE_CHECKING:
    from fleet.evals import GoldenSet
    from runtime.evals.protocol import ReportProgress


@dataclass(frozen=True, slots=True)
class Job:
    """One evaluation to make."""

    target: EvalTarget
    golden: str
    """Path of the set, relative to the project."""
    purpose: Purpose
    serving: str
    """Which engine with which flags answers."""


def read_set(root: Path, path: str) -> "GoldenSet":
    """Read a golden set; its name in errors is as given.

    Raises:
        ConfigError: with every bad line.
        FleetError: FC6702, there is no such file.
    """
    from fleet.evals import read_golden_set  # noqa: PLC0415 (needs a schema library)

    try:
        content = (root / path).read_bytes()
    except OSError as error:
        detail = f"`{path}` cannot be read: {error.strerror}."
        hint = "Paths are relative to the project."
        raise FleetError(problem("FC6702", "No such golden set", detail, hint=hint)) from None
    return read_golden_set(content, path)


def jobs(
    session: Session,
    live: State,
    names: Sequence[str],
    *,
    version: str | None,
    golden: str | None,
    purpose: Purpose | None,
) -> Iterator[Job]:
    """Yield an evaluation for each alias or version.

    Raises:
        FleetError: an unknown name, no golden set, or a version that no server holds.
    """
    fleet = session.fleet()
    at, heads = served_versions(live), answering(live)
    for name in names:
        alias, adapter = _chosen(session, name, version, heads)
        declared = fleet.adapters.get(alias)
        path = golden or (declared.golden if declared else None)
        if path is None:
            raise FleetError(
                problem(
                    "FC6701",
                    "No golden set",
                    f"`{alias}` declares none.",
                    hint="Declare `golden: golden/FILE.jsonl` on the adapter, or give --golden.",
                )
            )
        why = purpose or _purpose(path, declared.golden if declared else None, declared)
        found = at.get(adapter)
        if found is None:
            raise _not_served(adapter, at)
        yield Job(target_of(session, found), path, why, found.engine)


def all_jobs(session: Session, live: State, **asked: Any) -> tuple[list[Job], list[str]]:
    """Return an evaluation for each alias with a golden set, and a note for each that cannot be.

    Args:
        session: The project.
        live: What was observed.
        asked: As for `jobs`.
    """
    found: list[Job] = []
    notes: list[str] = []
    for name, each in session.fleet().adapters.items():
        if each.golden or asked.get("golden"):
            try:
                found += jobs(session, live, [name], **asked)
            except FleetError as error:
                notes.append(error.diagnostics[0].detail)
    return found, notes


def elsewhere(
    session: Session,
    name: str,
    place: tuple[str, str | None],
    golden: str,
    purpose: Purpose | None,
) -> Job:
    """Return an evaluation of any served name at a place: a URL, and its key's reference.

    Raises:
        FleetError: FC6703, the key cannot be read.
    """
    from runtime.secrets import read_secret  # noqa: PLC0415 (keeps small commands fast)

    url, key = place
    headers = {}
    if key is not None:
        secret = read_secret(session.root, key)
        if not secret:
            detail = f"`{key}` cannot be read here."
            raise FleetError(
                problem("FC6703", "No API key", detail, hint="Write env:NAME or file:path.")
            )
        headers = {"Authorization": f"Bearer {secret}"}
    locked = session.fleet().versions.get(name)
    try:
        alias = AdapterName.parse(name).alias
    except ValueError:
        alias = name
    digest = locked.digest if locked else ""
    target = EvalTarget(url, name, name, digest, alias, headers, fixed=True)
    return Job(target, golden, purpose or "smoke", url)


def alarms(session: Session, live: State) -> list[tuple[str, str, QualityDrift]]:
    """Return what has drifted of what serves: alias, version, and what the rule says."""
    return standings(past_of(session), live, {DriftStatus.SERVING, DriftStatus.RETRAIN})


def standings(
    past: Mapping[str, Sequence[EvalRecord]], live: State, wanted: Collection[DriftStatus]
) -> list[tuple[str, str, QualityDrift]]:
    """Return what the drift rules say of what serves, as far as it stands like that."""
    return [
        (alias, adapter, each)
        for alias, adapter in sorted(answering(live).items())
        for each in drifts(past.get(alias, ()), adapter)
        if each.standing in wanted
    ]


def target_of(session: Session, found: ServedVersion) -> EvalTarget:
    """Return who is asked; the digest is that of the loaded bytes, else the lock's."""
    locked = session.fleet().versions.get(found.adapter)
    digest = found.digest or (locked.digest if locked else "")
    alias = AdapterName.parse(found.adapter).alias
    return EvalTarget(found.url, found.adapter, found.adapter, digest, alias)


def jobs_due(session: Session, live: State) -> tuple[list[Job], list[str]]:
    """Return what is due now, and a note for each version that cannot be asked."""
    fleet = session.fleet()
    at, heads = served_versions(live), answering(live)
    serving = {
        alias: (fleet.adapters[alias], adapter, at[adapter].engine if adapter in at else "")
        for alias, adapter in heads.items()
        if alias in fleet.adapters
    }
    found: list[Job] = []
    notes: list[str] = []
    past = eval_records(session.ledger().read())
    for each in due_evaluations(serving, past, fleet.evals.every, session.now()):
        where = at.get(each.adapter)
        if where is None:
            notes.append(f"{each.adapter} is due ({each.reason}), and no reachable server holds it")
            continue
        found.append(Job(target_of(session, where), each.golden, each.purpose, where.engine))
    return found, notes


async def carry_out(
    session: Session,
    job: Job,
    spec: EvalSpec,
    teller: "Callable[[Purpose], ReportProgress]",
    through: str = "",
) -> list[dict[str, Any]]:
    """Make an evaluation and write it down; return the ledger's entries.

    The first anchor run of a version is asked twice: how many answers differ then is the noise
    floor that later ones are held against.
    """
    from fleet.evals import with_format  # noqa: PLC0415 (needs a schema library)
    from runtime.evals.evaluate import evaluate  # noqa: PLC0415 (keeps small commands fast)
    from runtime.evals.record import record  # noqa: PLC0415 (keeps small commands fast)

    declared = session.fleet().adapters.get(job.target.alias)
    golden = with_format(read_set(session.root, job.golden), declared.format if declared else None)
    office = office_of(session, through)
    # Read before anybody is asked: without the ledger it would be in vain.
    known = floor(past_of(session).get(job.target.alias, []), job.target.adapter)

    async def once(purpose: Purpose) -> dict[str, Any]:
        run = await evaluate(
            job.target, golden, spec, office, purpose=purpose, report=teller(purpose)
        )
        return record(run, office.store, session.ledger(), session.library, job.serving)

    first = await once(job.purpose)
    if job.purpose != "anchor" or not first["summary"]["valid"] or known is not None:
        return [first]
    return [first, await once("aa")]


def spec_for(session: Session, changes: Mapping[str, Any]) -> EvalSpec:
    """Return how the fleet declares that sets are asked, with what the command line changes."""
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(eval_spec_of(session.fleet().evals), **given)


def past_of(session: Session) -> dict[str, list[EvalRecord]]:
    """Return every evaluation in the ledger, by alias."""
    return eval_records(session.ledger().read())


def _chosen(
    session: Session, name: str, version: str | None, heads: Mapping[str, str]
) -> tuple[str, str]:
    """Return alias and full version name of what a person named."""
    fleet = session.fleet()
    try:
        parsed = AdapterName.parse(name)
    except ValueError:
        parsed = None
    if parsed is not None:
        return parsed.alias, name
    if name not in fleet.adapters:
        known = sorted(fleet.adapters)
        raise FleetError(
            problem(
                "FC5123",
                "No such alias",
                f"`{name}` is neither declared nor the full name of a version.",
                hint=did_you_mean(name, known),
            )
        )
    declared = fleet.adapters[name].name
    if version is not None:
        return name, f"{declared.alias}-{declared.base}-v{version.removeprefix('v')}"
    return name, heads.get(name, str(declared))


def _purpose(path: str, golden: str | None, declared: Any) -> Purpose:
    if path == golden:
        return "anchor"
    return "rolling" if declared is not None and path == declared.rolling else "smoke"


def _not_served(adapter: str, at: Mapping[str, ServedVersion]) -> EvalError:
    near = did_you_mean(adapter, sorted(at))
    held = [each for each in sorted(at) if each.rpartition("-v")[0] == adapter.rpartition("-v")[0]]
    also = f" Loaded of this adapter: {', '.join(held)}." if held else ""
    return EvalError(
        problem(
            "FC4507",
            "The version is not loaded",
            f"No reachable server holds `{adapter}`, so nothing can be asked of it.{also}",
            hint=near or "Declare it and apply: it is loaded before it gets any traffic.",
            command="fleetctl status",
        )
    )
