"""Render the losses of devices or hosts, and changes with which all promises are kept."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from fleet.advice import LossDiagnosis
from fleet.placement import Loss
from plans.amounts import counted, listed
from plans.explain.diagnosis import finite, remedy_lines
from plans.tables import WIDE_GAP, aligned

SHOWN = 40
"""Upper bound of losses of a kind that are shown as text, those that break most first; JSON has
all."""
NAMED = 3
"""Upper bound of versions that a line names."""


def render_text(diagnosis: LossDiagnosis) -> str:
    """Return the losses, and the changes that help, as text."""
    parts = (_table, _remedies)
    sections = ("\n".join(part(diagnosis)) for part in parts)
    return "\n\n".join(filter(None, sections)) + "\n"


def render_json(diagnosis: LossDiagnosis) -> str:
    """Return the losses as a JSON object; unknown figures are null."""
    document = {"format": "fleetctl-losses", "format_version": "1.0"} | asdict(diagnosis)
    document["kept"] = diagnosis.kept
    for line, loss in zip(document["losses"], diagnosis.losses, strict=True):
        line["kept"] = loss.kept
    return json.dumps(finite(document), indent=2, sort_keys=True) + "\n"


def _table(diagnosis: LossDiagnosis) -> Iterator[str]:
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
        for loss in worst_first[:SHOWN]
    ]
    yield from aligned(rows, indent="  ", gap=WIDE_GAP)
    if len(worst_first) > SHOWN:
        yield f"  … and {len(worst_first) - SHOWN} more: fleetctl diagnose --loss any --format json"


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


def _remedies(diagnosis: LossDiagnosis) -> Iterator[str]:
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
