"""Check versions before their load: the check of an apply, and the same ahead of one."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Final

from fleet.errors import ConfigError, Diagnostic, FleetError, LibraryError
from fleet.history import loaded_digests
from fleet.names import AdapterName
from fleet.plan import Plan
from fleet.planning import changed_bytes
from fleet.steps import LoadAdapter
from runtime.library.add import KnownBase, committed_bytes
from runtime.library.layout import WEIGHTS, copies_of, version_folder
from runtime.library.preflight import FiniteValues, Preflight
from runtime.library.served_copies import require_bytes, wrong_with
from runtime.project.facts import read_lock
from runtime.project.load import library_folder
from runtime.state_folder import STORE
from runtime.workspace import Workspace

READ_MOST: Final = 1 << 30
"""Upper bound of the weights that a check ahead reads; the rest is checked by the apply. Bytes."""


def preflight_of(workspace: Workspace, *, by_ledger: bool = True) -> Preflight:
    """Return the check of versions before their load, with the facts of the project.

    `by_ledger`: versions that served before are known from the ledger; else every version counts
    as one, and another name of its base is a warning.
    """
    fleet, bases = workspace.fleet(), dict[str, KnownBase]()
    with suppress(FleetError, OSError):  # for a base that serves and is no longer declared
        locked = read_lock(workspace.root).bases.items()
        bases = {name: KnownBase(name, "", base) for name, base in locked}
    for name, base in fleet.bases.items():
        if base.shape:
            bases[name] = KnownBase(name, base.model, base.shape, base.known_as)
    served = {name: facts.digest for name, facts in fleet.versions.items()}
    if by_ledger:
        served = {}
        with suppress(FleetError):  # an unreadable ledger knows of no version
            served = loaded_digests(workspace.history())
    finite = FiniteValues(workspace.state_dir / "cache" / "preflight")
    return Preflight(bases, fleet.versions, finite, served)


def check_plan(workspace: Workspace, plan: Plan) -> tuple[tuple[Diagnostic, ...], int]:
    """Check the versions that a plan loads; return warnings, and the number left to the apply."""
    operations = (step.operation for step in plan.steps)
    loads = [work.adapter for work in operations if isinstance(work, LoadAdapter)]
    versions = {adapter.adapter: adapter.digest for adapter in loads if adapter.digest}
    if not versions:
        return (), 0
    found, left = _check(workspace, preflight_of(workspace), versions)
    problems = chain.from_iterable(found.values())
    return tuple(replace(problem, severity="warning") for problem in problems), left


def check_declared(workspace: Workspace) -> tuple[tuple[Diagnostic, ...], int]:
    """Check the declared versions; return warnings with places, and the number left to an apply.

    Raises:
        ConfigError: a version must not be loaded, or has other bytes than an earlier commit of
            the lock.
    """
    fleet = workspace.fleet()
    names = {str(adapter.name): adapter.name for adapter in fleet.adapters.values()}
    versions = {name: fleet.versions[name].digest for name in names if name in fleet.versions}
    committed = committed_bytes(workspace.root)
    changed = [
        changed_bytes(
            fleet, name, facts.digest, f"commit {was.commit} of the lock has {was.digest[:12]}"
        )
        for name, facts in fleet.versions.items()
        if (was := committed.get(name)) and was.digest != facts.digest
    ]
    if changed:
        raise ConfigError(*changed)
    found, left = _check(workspace, preflight_of(workspace, by_ledger=False), versions)
    placed: list[Diagnostic] = []
    for name, problems in found.items():
        its = names[name]
        place = fleet.declared_at("clients", its.client, "adapters", its.task, "version")
        placed += (replace(wrong, place=place) for wrong in problems)
    if errors := [problem for problem in placed if problem.severity == "error"]:
        raise ConfigError(*errors)
    return tuple(placed), left


def _check(
    workspace: Workspace, preflight: Preflight, versions: Mapping[str, str]
) -> tuple[dict[str, tuple[Diagnostic, ...]], int]:
    """Check versions (full name to digest) whose bytes are here; return problems by name.

    Also returns the number of versions of which the values are left unread.
    """
    library, store = library_folder(workspace.root), workspace.state_dir / STORE
    found, left, budget = dict[str, tuple[Diagnostic, ...]](), 0, READ_MOST
    for name, digest in sorted(versions.items()):
        folder = version_folder(library, AdapterName.parse(name))
        if not (folder / WEIGHTS).is_file():
            continue  # an apply may run where the bytes are
        try:
            if preflight.finite.silent(digest) is None:
                budget -= (folder / WEIGHTS).stat().st_size
                if budget < 0:
                    left += 1
                    continue
                if wrong_with(folder, digest):
                    copies = copies_of(digest, store)
                    folder = next((copy for copy in copies if not wrong_with(copy, digest)), folder)
                    require_bytes(folder, digest)
            found[name] = preflight.check(name, digest, folder)
        except LibraryError as error:
            found[name] = error.diagnostics
    return found, left
