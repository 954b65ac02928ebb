"""Report evidence: a line for every verdict of a gate, and a verdict in full."""

from collections.abc import Iterable, Mapping
from typing import Any

from fleet.history import Entry, EvidenceCheck, GateJudged, UpgradeJudged
from plans.amounts import date_time, iso_millis
from plans.tables import aligned


def chosen(
    entries: Iterable[Entry], *, alias: str = "", verdict: str = "", limit: int | None = None
) -> tuple[Entry, ...]:
    """Return the last `limit` verdicts, oldest first; filtered by alias or version, and verdict."""
    found = [
        entry
        for entry in entries
        if isinstance(event := entry.event, GateJudged | UpgradeJudged)
        and alias in ("", event.alias, event.adapter)
        and verdict in ("", event.finding["verdict"])
    ]
    return tuple(found if limit is None else found[-limit:] if limit else ())


def document(entry: Entry) -> dict[str, Any]:
    """Return a verdict as a document."""
    return {
        "seq": entry.seq,
        "time": iso_millis(entry.time),
        "by": entry.by,
        "run": entry.run,
        "hash": entry.hash,
        **entry.document(),
    }


def render_list(entries: Iterable[Entry]) -> str:
    """Return a line for every verdict."""
    rows = [
        (
            f"{entry.seq}",
            date_time(entry.time),
            event.adapter,
            f"{event.percent} %" if isinstance(event, GateJudged) else event.canary,
            event.gate,
            str(event.finding["verdict"]),
            str(event.finding["reason"]),
        )
        for entry in entries
        if isinstance(event := entry.event, GateJudged | UpgradeJudged)
    ]
    if not rows:
        return "No gate has been judged yet.\n"
    head = ("Entry", "Time (UTC)", "Version", "Share", "Gate", "Verdict", "Why")
    return "\n".join(aligned([head, *rows])) + "\n"


def render_one(entry: Entry, event: GateJudged | UpgradeJudged) -> str:
    """Return a verdict in full."""
    finding = event.finding
    limits = ", ".join(f"{name} {value:g}" for name, value in sorted(finding["parameters"].items()))
    lines = [
        f"Entry {entry.seq} of {date_time(entry.time)} UTC, by {entry.by}, run {entry.run}",
        f"Gate {event.gate} ({finding['metric']}): {finding['verdict']}",
        f"  {finding['reason']}",
        *([f"  {finding['power']}"] if finding["power"] else []),
        *_subject(entry, event),
        f"Rule {finding['rule']}: {_figures(finding)}",
        f"Limits: {limits or 'none'}",
        "Counts:",
        *(f"  {name}: {_counts(value)}" for name, value in sorted(finding["counts"].items())),
        "Bytes:",
        *(f"  {name}: {value}" for name, value in sorted(event.digests.items())),
    ]
    if isinstance(event, GateJudged) and event.fingerprint:
        lines.append(f"  engine: {event.fingerprint}")
    if event.runs:
        lines.append(f"Evaluations: {', '.join(event.runs)}")
    lines.append(f"Hash {entry.hash}")
    return "\n".join(lines) + "\n"


def _subject(entry: Entry, event: GateJudged | UpgradeJudged) -> tuple[str, ...]:
    match event:
        case GateJudged():
            since = (event.since or entry.time).isoformat()
            beside = f"Version {event.adapter} at {event.percent} %, beside {event.stable}"
            return beside, f"Counted since {since}"
        case UpgradeJudged():
            where = f"canary {event.canary} of the upgrade of base {event.base}"
            return (f"Version {event.adapter} on {where}, beside the old server",)


def render_checks(checks: Iterable[EvidenceCheck]) -> str:
    """Return a line for every verdict that does not follow from the recorded counts."""
    return "".join(
        f"Entry {check.seq}: {check.recorded or 'a verdict'} of gate {check.gate} "
        f"for {check.adapter}: {check.differs}.\n"
        for check in checks
        if check.differs
    )


def _figures(finding: Mapping[str, Any]) -> str:
    """Return the figures; the value is a p-value of an offline gate, an e-value of a live one."""
    figures = {name: finding[name] for name in ("estimate", "lower", "upper", "value")}
    return ", ".join(f"{n} {'-' if v is None else f'{v:.6g}'}" for n, v in figures.items())


def _counts(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{number:g}" for number in value)
    return f"{value:g}"
