"""Evidence as people read it: a line for each judged gate, and one of them in full."""

from collections.abc import Iterable, Mapping
from typing import Any

from fleet.history import Entry, EvidenceCheck


def chosen(
    entries: Iterable[Entry], *, alias: str = "", verdict: str = "", limit: int | None = None
) -> tuple[Entry, ...]:
    """Return the last `limit` judged gates, oldest first; of one alias, with one verdict."""
    found = [
        each
        for each in entries
        if each.kind == "gate_judged"
        and alias in ("", each.data["alias"], each.data["adapter"])
        and verdict in ("", each.data["finding"]["verdict"])
    ]
    return tuple(found if limit is None else found[-limit:] if limit else ())


def document(entry: Entry) -> dict[str, Any]:
    """Return one judged gate in plain form."""
    return {
        "seq": entry.seq,
        "time": entry.time.isoformat(timespec="milliseconds"),
        "by": entry.by,
        "run": entry.run,
        "hash": entry.hash,
        **entry.data,
    }


def render_list(entries: Iterable[Entry]) -> str:
    """Return a line for each judged gate."""
    rows = [
        (
            f"{each.seq}",
            f"{each.time:%Y-%m-%d %H:%M:%S}",
            str(each.data["adapter"]),
            f"{each.data['percent']} %",
            str(each.data["gate"]),
            str(each.data["finding"]["verdict"]),
            str(each.data["finding"]["reason"]),
        )
        for each in entries
    ]
    if not rows:
        return "No gate has been judged yet.\n"
    head = ("Entry", "Time (UTC)", "Version", "Share", "Gate", "Verdict", "Why")
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head) - 1)]
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False))
        + f"  {row[-1]}"
        for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def render_one(entry: Entry) -> str:
    """Return everything about one judged gate."""
    data, finding = entry.data, entry.data["finding"]
    lines = [
        f"Entry {entry.seq} of {entry.time:%Y-%m-%d %H:%M:%S} UTC, by {entry.by}, run {entry.run}",
        f"Gate {data['gate']} ({finding['metric']}): {finding['verdict']}",
        f"  {finding['reason']}",
        *([f"  {finding['power']}"] if finding["power"] else []),
        f"Version {data['adapter']} at {data['percent']} %, beside {data['stable']}",
        f"Counted since {data['since']}",
        f"Rule {finding['rule']}: {_figures(finding)}",
        "Limits: " + _pairs(finding["parameters"]),
        "Counts:",
        *(f"  {name}: {_counts(value)}" for name, value in sorted(finding["counts"].items())),
        "Bytes:",
        *(f"  {name}: {value}" for name, value in sorted(data["digests"].items())),
    ]
    if data.get("fingerprint"):
        lines.append(f"  engine: {data['fingerprint']}")
    if data.get("runs"):
        lines.append(f"Evaluations: {', '.join(data['runs'])}")
    lines.append(f"Hash {entry.hash}")
    return "\n".join(lines) + "\n"


def render_checks(checks: Iterable[EvidenceCheck]) -> str:
    """Return a line for each verdict that does not follow from its counts."""
    return "".join(
        f"Entry {each.seq}: {each.recorded or 'a verdict'} of gate {each.gate} for {each.adapter}: "
        f"{each.differs}.\n"
        for each in checks
        if each.differs
    )


def _figures(finding: Mapping[str, Any]) -> str:
    """Return the figures; the value is a p-value of an offline gate, an e-value of a live one."""
    names = ("estimate", "lower", "upper", "value")
    return ", ".join(f"{name} {_figure(finding[name])}" for name in names)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _pairs(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(values.items())) or "none"


def _counts(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{each:g}" for each in value)
    return f"{value:g}"
