"""A diagnosis as people and programs read it: what binds, by how much, and what helps."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from math import isfinite
from typing import Any

from fleet.placement import Attempt, TotalNeed
from fleet.what_if import Advice, Diagnosis
from plans.explain.figures import percent
from plans.render.text import aligned
from plans.wording import counted, listed

SHOWN = 5
"""Remedies that are shown as text; JSON holds all."""


def render_text(diagnosis: Diagnosis) -> str:
    """Return a diagnosis as text."""
    if diagnosis.fits:
        return "\n".join(_fitting(diagnosis)) + "\n"
    sections = [
        [*_headline(diagnosis)],
        [*_causes(diagnosis)],
        [*_totals(diagnosis.totals)],
        [*_trials(diagnosis.trials)],
        [*_remedies(diagnosis)],
    ]
    return "\n\n".join("\n".join(each) for each in sections if each) + "\n"


def render_json(diagnosis: Diagnosis) -> str:
    """Return a diagnosis as a JSON object; what is not known or has no limit is null."""
    document = {"format": "fleetctl-diagnosis", "format_version": "1.0"} | asdict(diagnosis)
    return json.dumps(_finite(document), indent=2, sort_keys=True) + "\n"


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case float() if not isfinite(value):
            return None
        case _:
            return value


def _fitting(diagnosis: Diagnosis) -> Iterator[str]:
    yield f"Fleet {diagnosis.fleet} fits."
    for each in diagnosis.tightest:
        yield f"Tightest in {each.resource} ({percent(each.used)}): {each.text}."


def _headline(diagnosis: Diagnosis) -> Iterator[str]:
    lacking = counted(len(diagnosis.lacking), "version")
    yield f"Fleet {diagnosis.fleet} does not fit: no place for {lacking}."
    yield f"  {listed(diagnosis.lacking, 6)}"


def _causes(diagnosis: Diagnosis) -> Iterator[str]:
    yield "Why:"
    for each in diagnosis.causes:
        also = "" if each.primary else "also, "
        whom = "" if each.adapters == diagnosis.lacking else f" [{listed(each.adapters, 3)}]"
        yield f"  {also}{each.limit.value} (base {each.base}): {each.text}{whom}"


def _totals(totals: tuple[TotalNeed, ...]) -> Iterator[str]:
    if not totals:
        return
    rows = [("All together", "Replicas", "Slots", "Devices", "Tokens/s in the worst hour")]
    for each in totals:
        carried = f"{each.carried:.0f}" if isfinite(each.carried) else "not known"
        rows.append(
            (
                each.base,
                f"{each.replicas} wanted, {each.placed} placed",
                str(each.slots),
                f"{each.devices} of {each.usable} that could hold it",
                f"{each.tokens:.0f} asked, {carried} carried ({each.hour:02}:00 UTC)",
            )
        )
    yield from aligned(rows, "")


def _trials(trials: tuple[Attempt, ...]) -> Iterator[str]:
    if not any(each.obstacle for each in trials):
        return
    yield "Alone on the best empty device of each kind:"
    rows = [
        (
            each.adapter,
            each.kind,
            "fits"
            if each.obstacle is None
            else f"{each.obstacle.limit.value}: {each.obstacle.text}",
        )
        for each in trials
    ]
    yield from aligned(rows)


def _remedies(diagnosis: Diagnosis) -> Iterator[str]:
    tried = f"{counted(diagnosis.tried, 'change')} tried"
    if not diagnosis.remedies:
        yield f"No single change helps ({tried}): take adapters away, or change several things."
        return
    yield f"What helps, cheapest first (each planned with; {tried}):"
    for number, each in enumerate(diagnosis.remedies[:SHOWN], 1):
        yield f"  {number}. {each.text}: {_price(each)}{_effects(each)}."
        yield f"     {each.edit}" + (f" [{each.place}]" if each.place else "")
        if each.what_if:
            changes = " ".join(f"--what-if '{change}'" for change in each.what_if)
            yield f"     fleetctl plan {changes}"
    rest = len(diagnosis.remedies) - SHOWN
    if rest > 0:
        yield f"  … and {rest} more: fleetctl diagnose --format json"


def _price(remedy: Advice) -> str:
    added = remedy.added_per_hour
    return "price not known" if added is None else f"{added:+.2f} per hour"


def _effects(remedy: Advice) -> str:
    parts = [
        counted(count, noun)
        for count, noun in ((remedy.restarts, "restart"), (remedy.moves, "move"))
        if count
    ]
    return f", {' and '.join(parts)}" if parts else ""
