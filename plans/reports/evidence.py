"""Report evidence: a line for every verdict of a gate, and a verdict in full."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fleet.history import Entry, GateJudged, GateVerdict, UpgradeJudged
from plans.tables import aligned, date_time, iso_millis


def chosen(
    entries: Iterable[Entry], *, alias: str = "", verdict: str = "", limit: int | None = None
) -> tuple[Entry, ...]:
    """Return the last `limit` verdicts, oldest first; filtered by alias or version, and verdict."""
    found = [
        entry
        for entry in entries
        if isinstance(event := entry.event, GateVerdict)
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
            _place(event),
            event.gate,
            str(event.finding["verdict"]),
            str(event.finding["reason"]),
        )
        for entry in entries
        if isinstance(event := entry.event, GateVerdict)
    ]
    if not rows:
        return "No gate has been judged yet.\n"
    head = ("Entry", "Time (UTC)", "Version", "Share", "Gate", "Verdict", "Why")
    return "\n".join(aligned([head, *rows])) + "\n"


def render_one(entry: Entry, event: GateVerdict) -> str:
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
    if isinstance(event, GateJudged) and (rows := event.rows):
        lines.append(f"Usage rows: {rows.rows}, digest {rows.sha256}")
    if event.runs:
        lines.append(f"Evaluations: {', '.join(event.runs)}")
    lines.append(f"Hash {entry.hash}")
    return "\n".join(lines) + "\n"


def _place(event: GateVerdict) -> str:
    """Return the share of a version on its way, or the canary server of an upgrade."""
    match event:
        case GateJudged(percent=percent):
            return f"{percent} %"
        case UpgradeJudged(canary=canary):
            return canary
        case _:
            return ""


def _subject(entry: Entry, event: GateVerdict) -> tuple[str, ...]:
    match event:
        case GateJudged():
            since = (event.since or entry.time).isoformat()
            beside = f"Version {event.adapter} at {event.percent} %, beside {event.stable}"
            return beside, f"Counted since {since}"
        case UpgradeJudged():
            where = f"canary {event.canary} of the upgrade of base {event.base}"
            return (f"Version {event.adapter} on {where}, beside the old server",)
        case _:
            return ()


def render_verified(found: Mapping[str, Any]) -> str:
    """Return the differences that `evidence verify` found, or that all follows."""
    lines = [*_differences(found)]
    if not lines:
        last = f", the last one {found['head']}" if found["head"] else ""
        follow = "follows from its counts" if found["verdicts"] == 1 else "follow from their counts"
        verdicts = f"{_number(found['verdicts'], 'verdict')} {follow}"
        entries = _number(found["entries"], "entry", "entries")
        lines = [f"{verdicts}; {entries} in one unbroken chain{last}."]
    return "".join(f"{line}\n" for line in lines)


def render_unchecked(found: Mapping[str, Any]) -> str:
    """Return how many verdicts were counted again or could not be, and those that do not count."""
    lines = []
    if again := found["counted_again"]:
        text = "counted again from stored answers and usage rows, with the same counts"
        lines.append(f"{_number(again, 'verdict')} {text}")
    reasons = Counter(f"{item['state']}: {item['why']}" for item in found["not_counted"])
    lines += [f"{_number(count, 'verdict')} {reason}" for reason, count in reasons.items()]
    if signed := found["signed"]:
        lines.append(f"signed entries that decide: {signed}")
    if bare := found["not_signed"]:
        lines.append(f"entries that decide and are not signed: {bare}")
    lines += [
        f"entry {item['seq']} of {item['time']}, by {item['by']}, began anew with another key: do "
        "you know why?"
        for item in found["keys_lost"]
    ]
    lines += [
        f"entry {item['seq']}: gate {item['gate']} of {item['adapter']} was judged by other limits "
        "than are declared now, and does not count"
        for item in found["other_limits"]
    ]
    return "".join(f"{line[:1].upper()}{line[1:]}.\n" for line in lines)


def render_keys(found: Mapping[str, Any]) -> str:
    """Return the key of this machine and the keys that may sign, with their entries."""
    own = found["own"]
    if own is None:
        said = "This machine has no key."
    elif found["is_accepted"] or not found["keys"]:
        said = f"Key of this machine: {own}"
    else:
        said = f"Key of this machine, which the ledger does not accept: {own}"
    lines = [said] if found["keys"] else [said, "No entry is signed yet."]
    for key in found["keys"]:
        until = f" to {key['until'] - 1}" if key["until"] else " on"
        lines.append(f"{key['key']} signs entries from {key['since']}{until}")
    return "".join(f"{line}\n" for line in lines)


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def _differences(found: Mapping[str, Any]) -> Iterator[str]:
    for check in found["wrong"]:
        yield (
            f"Entry {check['seq']}: {check['recorded'] or 'a verdict'} of gate {check['gate']} "
            f"for {check['adapter']}: {check['differs']}."
        )
    for item in found["not_believed"]:
        yield f"Entry {item['seq']}, {item['kind']}: {item['why']}."
    for item in found["recounts_differ"]:
        yield f"Entry {item['seq']}: gate {item['gate']} of {item['adapter']}: {item['why']}."
    for run, text in found["changed_evaluations"].items():
        yield f"Evaluation {run}: {text}."
    if found["head_lost"]:
        head = found["asked_head"]
        yield f"No entry has the hash {head}: the ledger was replaced or truncated."
    for path, known in found["lacking"].items():
        yield (
            f"The ledger has {found['entries']} entries and lacks some of the {known} that were "
            f"once read of it and are kept in {path}: put them back, or delete that file if you "
            "know why they are gone."
        )
    if found["checkpoint_forged"]:
        yield (
            f"{found['checkpoint']} was edited: it is not what the ledger's entries amount to, and "
            "plans were made by it. Remove it; the next plan makes it anew."
        )


def _figures(finding: Mapping[str, Any]) -> str:
    """Return the figures; the value is a p-value of an offline gate, an e-value of a live one."""
    figures = {name: finding[name] for name in ("estimate", "lower", "upper", "value")}
    return ", ".join(f"{n} {'-' if v is None else f'{v:.6g}'}" for n, v in figures.items())


def _counts(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{number:g}" for number in value)
    return f"{value:g}"
