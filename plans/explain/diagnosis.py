"""Render a diagnosis: the binding limits, by how much they bind, and changes that help."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from fleet.advice import Advice, Diagnosis
from plans.amounts import and_more, counted, listed, percent
from plans.tables import WIDE_GAP, aligned

SHOWN = 5
"""Upper bound of changes that are shown as text; JSON holds all."""


def render_text(diagnosis: Diagnosis) -> str:
    """Return a diagnosis as text."""
    if diagnosis.fits:
        lines = [
            f"Tightest in {limit.resource} ({percent(limit.used)}): {limit.text}."
            for limit in diagnosis.tightest
        ]
        return "\n".join([f"Fleet {diagnosis.fleet} fits.", *lines]) + "\n"
    parts = (_headline, _causes, _totals, _trials, _remedies)
    sections = ("\n".join(part(diagnosis)) for part in parts)
    return "\n\n".join(filter(None, sections)) + "\n"


def render_json(diagnosis: Diagnosis) -> str:
    """Return a diagnosis as a JSON object; unknown and unlimited figures are null."""
    document = {"format": "fleetctl-diagnosis", "format_version": "1.0"} | asdict(diagnosis)
    return json.dumps(finite(document), indent=2, sort_keys=True) + "\n"


def finite(value: Any) -> Any:
    """Return a value of a document with null for figures that are not finite."""
    match value:
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case float() if not isfinite(value):
            return None
        case _:
            return value


def _headline(diagnosis: Diagnosis) -> Iterator[str]:
    lacking = counted(len(diagnosis.lacking), "version")
    yield f"Fleet {diagnosis.fleet} does not fit: no place for {lacking}."
    yield f"  {listed(diagnosis.lacking, 6)}"


def _causes(diagnosis: Diagnosis) -> Iterator[str]:
    yield "Why:"
    for cause in diagnosis.causes:
        also = "" if cause.primary else "also, "
        whom = "" if cause.adapters == diagnosis.lacking else f" [{listed(cause.adapters, 3)}]"
        yield f"  {also}{cause.limit.value} (base {cause.base}): {cause.text}{whom}"


def _totals(diagnosis: Diagnosis) -> Iterator[str]:
    if not diagnosis.totals:
        return
    rows = [("All together", "Replicas", "Slots", "Devices", "Tokens/s in the worst hour")]
    for total in diagnosis.totals:
        carried = f"{total.carried:.0f}" if isfinite(total.carried) else "not known"
        rows.append(
            (
                total.base,
                f"{total.replicas} wanted, {total.placed} placed",
                str(total.slots),
                f"{total.devices} of {total.usable} that could hold it",
                f"{total.tokens:.0f} asked, {carried} carried ({total.hour:02}:00 UTC)",
            )
        )
    yield from aligned(rows, gap=WIDE_GAP)


def _trials(diagnosis: Diagnosis) -> Iterator[str]:
    if not any(trial.obstacle for trial in diagnosis.trials):
        return
    yield "Alone on the best empty device of each kind:"
    rows = [
        (trial.adapter, trial.kind, f"{why.limit.value}: {why.text}" if why else "fits")
        for trial in diagnosis.trials
        for why in (trial.obstacle,)
    ]
    yield from aligned(rows, indent="  ", gap=WIDE_GAP)


def _remedies(diagnosis: Diagnosis) -> Iterator[str]:
    tried = f"{counted(diagnosis.tried, 'change')} tried"
    if not diagnosis.remedies:
        yield f"No single change helps ({tried}): take adapters away, or change several things."
        return
    yield f"What helps, cheapest first (each planned with; {tried}):"
    yield from remedy_lines(diagnosis.remedies, "fleetctl diagnose --format json")


def remedy_lines(remedies: Sequence[Advice], more: str) -> Iterator[str]:
    """Yield changes that help, with their prices; the command `more` prints those left out."""
    for number, remedy in enumerate(remedies[:SHOWN], 1):
        added = remedy.added_per_hour
        price = "price not known" if added is None else f"{added:+.2f} per hour"
        counts = ((remedy.restarts, "restart"), (remedy.moves, "move"))
        effects = " and ".join(counted(count, noun) for count, noun in counts if count)
        yield f"  {number}. {remedy.text}: {price}{effects and f', {effects}'}."
        yield f"     {remedy.edit}" + (f" [{remedy.place}]" if remedy.place else "")
        if remedy.what_if:
            changes = " ".join(f"--what-if '{change}'" for change in remedy.what_if)
            yield f"     fleetctl plan {changes}"
    if rest := and_more(remedies, SHOWN):
        yield f"  … {rest}: {more}"
