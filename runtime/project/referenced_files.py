"""Check the files that declarations name: golden sets and templates of notices.

A golden set is read when a version is judged, a template after traffic has moved: too late to
report a wrong line. `fleetctl validate` reads both.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from fleet.codes import diagnostic
from fleet.config import Problem, diagnostics
from fleet.errors import ConfigError, Diagnostic, Position
from fleet.evals import GoldenItemError, GoldenSet, in_pairs, read_golden_set, scored_by, to_judge
from fleet.gates import LEAST_ITEMS, certifiable, items_needed, least_limit, points_text
from fleet.history import Audience
from fleet.policies import AUTO, BY_FORM
from fleet.rollouts import gates_of, golden_of
from fleet.spec import NotifyEvent
from runtime.files import plain_text, read_plain
from runtime.project.load import Project

FindFault = Callable[[str, Audience, tuple[NotifyEvent, ...]], tuple[int, str] | None]
"""Returns line and reason of a fault of a template for an audience; line 0: no line."""


def check_referenced_files(root: Path, project: Project, find_fault: FindFault) -> None:
    """Read golden sets and templates of notices.

    Raises:
        ConfigError: with all faults.
    """
    if faults := [*_golden(root, project), *_templates(root, project, find_fault)]:
        raise ConfigError(*faults)


def _golden(root: Path, project: Project) -> Iterator[Diagnostic]:
    for path in sorted(project.fleet.golden):
        try:
            golden = read_golden_set(read_plain(root / path), path)
        except ConfigError as error:
            yield from error.diagnostics
            continue
        yield from _scores(path, golden, project)
        yield from _limits(path, project)
        judged = [item.id for item in golden.items if to_judge(item) or in_pairs(item)]
        if judged and project.fleet.evals.spec.judge is None:
            more = f" and {len(judged) - 1} more" if judged[1:] else ""
            detail = f"`{judged[0]}`{more} of {len(golden.items)} items ask for a judge."
            hint = (
                "Declare one, or score them by a metric: `evals: {judge: {url: ..., model: ...}}`."
            )
            yield diagnostic("FC1249", detail, Position(path, 1, 1), hint=hint)


def _scores(path: str, golden: GoldenSet, project: Project) -> Iterator[Diagnostic]:
    """Yield the gates whose `score` is no metric, or no metric of the expectations of this set."""
    fleet = project.fleet
    asked = {
        (name, score, adapter.format if score == BY_FORM else None)
        for adapter in fleet.adapters.values()
        for name in fleet.rollouts[adapter.rollout].gates
        if (score := fleet.gates[name].score) and golden_of(adapter, fleet.gates[name]) == path
    }
    for name, score, form in sorted(asked, key=repr):
        try:
            scored_by(golden, score, form)
        except GoldenItemError as error:
            found = Problem("FC1254", ("gates", name, "score"), f"{error}.", hint=error.hint)
            yield from diagnostics([found], project.tree)


def _limits(path: str, project: Project) -> Iterator[Diagnostic]:
    """Yield the gates whose limit no version could keep on this set, however alike the answers."""
    fleet, items = project.fleet, project.fleet.golden[path].independent
    asked = {
        gate
        for adapter in fleet.adapters.values()
        for gate in gates_of(fleet, adapter)
        if gate.offline and golden_of(adapter, gate) == path
    }
    for gate in sorted(asked, key=lambda gate: gate.name):
        least = certifiable(items, 0.0, gate.samples)
        if items and (items < LEAST_ITEMS or gate.margin < least):
            few = f"nothing passes on fewer than {LEAST_ITEMS} independent items"
            alike = (
                f"the least that they show is {points_text(least)}, of answers that are all alike"
            )
            detail = (
                f"`{gate.name}` asks for {gate.limit} on `{path}`, which has {items} independent "
                f"items: {few if items < LEAST_ITEMS else alike}. No version could pass."
            )
            more = (
                items_needed(0.0, gate.samples, gate.margin) if gate.unit != AUTO else LEAST_ITEMS
            )
            auto = f"Write `max: auto`, {least_limit(items, gate.samples)} pp here, or "
            auto = auto if items >= LEAST_ITEMS else ""
            hint = f"{auto}bring the set to {max(LEAST_ITEMS, more)} items or more."
            hint = hint[:1].upper() + hint[1:]
            found = Problem("FC1257", ("gates", gate.name, "max"), detail, hint=hint)
            yield from diagnostics([found], project.tree)


def _templates(root: Path, project: Project, find_fault: FindFault) -> Iterator[Diagnostic]:
    fleet = project.fleet
    asked: list[tuple[tuple[str, ...], Audience]] = [(("notify",), "operators")]
    asked += [(("clients", name, "notify"), "client") for name in fleet.clients]
    for path, audience in asked:
        notify = fleet.notify if audience == "operators" else fleet.clients[path[1]].notify
        if notify is None or notify.template is None:
            continue
        name, at = notify.template, (*path, "template")
        try:
            text = plain_text(root / name)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            detail = f"`{name}` cannot be read: {why}."
            hint = "Paths are relative to the project. Until it is there, notices have our text."
            yield from diagnostics([Problem("FC1250", at, detail, hint=hint)], project.tree)
            continue
        wrong = find_fault(text, audience, notify.events)
        if wrong is None:
            continue
        line, why = wrong
        if line:
            detail, hint = f"{why.removesuffix('.')}.", "It is a Jinja template."
            yield diagnostic("FC1251", detail, Position(name, line, 1), hint=hint)
            continue
        detail = f"`{name}` cannot tell {why.removesuffix('.')}."
        hint = "Branch on `it.event`, or say with `events` what is told; a client sees fewer facts."
        yield from diagnostics([Problem("FC1251", at, detail, hint=hint)], project.tree)
