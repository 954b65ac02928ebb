"""Render a diagnosis: the binding limits, by how much they bind, and changes that help.

The diagnosis of losses: devices or hosts that can be lost, and changes with which all promises are
kept.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from fleet.advice import Advice, Diagnosis, LossDiagnosis
from fleet.placement import Loss
from plans.tables import WIDE_GAP, aligned, and_more, counted, listed, percent

SHOWN = 5
"""Upper bound of changes that are shown as text; JSON holds all."""
MOST_LOSSES = 40
"""Upper bound of losses of a kind that are shown as text, those that break most first; JSON has
all."""
NAMED = 3
"""Upper bound of versions that a line names."""


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


def losses_text(diagnosis: LossDiagnosis) -> str:
    """Return the losses, and the changes that help, as text."""
    parts = (_losses, _remedies_of_losses)
    sections = ("\n".join(part(diagnosis)) for part in parts)
    return "\n\n".join(filter(None, sections)) + "\n"


def losses_json(diagnosis: LossDiagnosis) -> str:
    """Return the losses as a JSON object; unknown figures are null."""
    document = {"format": "fleetctl-losses", "format_version": "1.0"} | asdict(diagnosis)
    document["kept"] = diagnosis.kept
    for line, loss in zip(document["losses"], diagnosis.losses, strict=True):
        line["kept"] = loss.kept
    return json.dumps(finite(document), indent=2, sort_keys=True) + "\n"


def _losses(diagnosis: LossDiagnosis) -> Iterator[str]:
    kept = sum(loss.kept for loss in diagnosis.losses)
    if not diagnosis.losses:
        yield f"Fleet {diagnosis.fleet} has no version on a device that answers."
        return
    places = counted(len(diagnosis.losses), "place")
    which = f"any of {places}" if diagnosis.kept else f"{kept} of {places}"
    yield f"Fleet {diagnosis.fleet}: {which} can be lost with every promise kept."
    worst_first = sorted(
        diagnosis.losses,
        key=lambda loss: (loss.kept, -len(loss.unserved), -len(loss.fewer), loss.place),
    )
    rows = [("Lost", "Copies", "Kept", "Then")]
    rows += [
        (loss.place, str(loss.versions), "yes" if loss.kept else "no", consequence(loss))
        for loss in worst_first[:MOST_LOSSES]
    ]
    yield from aligned(rows, indent="  ", gap=WIDE_GAP)
    if len(worst_first) > MOST_LOSSES:
        more = len(worst_first) - MOST_LOSSES
        yield f"  … and {more} more: fleetctl diagnose --loss any --format json"


def consequence(loss: Loss) -> str:
    """Return the consequence of a loss for the versions there."""
    parts = []
    if loss.unserved:
        why = f" ({loss.causes[0].limit.value}: {loss.causes[0].text})" if loss.causes else ""
        parts.append(f"no server for {listed(loss.unserved, NAMED)}{why}")
    if loss.fewer:
        parts.append(f"fewer replicas of {listed(loss.fewer, NAMED)}, which carry the load")
    if loss.late:
        parts.append(f"late answers of {listed(loss.late, NAMED)}")
    if loss.starts:
        price = f"{loss.added_per_hour:+.2f} per hour"
        servers = listed(loss.starts, NAMED)
        parts.append(f"{servers} start{'s' * (len(loss.starts) == 1)} on free devices, {price}")
    return "; ".join(parts) or "running servers take all"


def _remedies_of_losses(diagnosis: LossDiagnosis) -> Iterator[str]:
    if diagnosis.kept:
        return
    if diagnosis.tried is None:
        yield "Changes that might help are not tried in a fleet of this size."
        return
    tried = f"{counted(diagnosis.tried, 'change')} tried"
    if not diagnosis.remedies:
        yield f"No single change keeps all promises after all of these losses ({tried})."
        return
    yield f"What keeps all of them, cheapest first (each planned with; {tried}):"
    yield from remedy_lines(diagnosis.remedies, "fleetctl diagnose --loss any --format json")
