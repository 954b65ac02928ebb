"""Adapter versions for the terminal: the list, one version's page, the result of a check.

All take the documents that `--format json` prints, so that both forms say the same.

Retraining for the terminal; takes the documents that `--format json` prints.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fleet.names import alias_name

_COLUMNS_RETRAINING = ("TURN", "ADAPTER", "TRAINED", "NEXT", "CLAIMED BY", "")


def retraining_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return each adapter's turn, one a line."""
    cells = [_cells_of_retraining(each) for each in rows]
    widths = [max(len(each[place]) for each in [_COLUMNS_RETRAINING, *cells]) for place in range(6)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip()
        for each in [_COLUMNS_RETRAINING, *cells]
    ]
    return "\n".join(lines) + "\n"


def _cells_of_retraining(each: Mapping[str, Any]) -> tuple[str, ...]:
    claim = each["claim"]
    held = f"{claim['by']} until {claim['until'][:10]}" if claim else "-"
    return (
        each["turn"],
        each["adapter"],
        (each["trained"] or "-")[:10],
        (each["next"] or "-")[:10],
        held,
        each["reason"],
    )


_COLUMNS = ("VERSION", "BASE", "RANK", "SIZE", "ACCURACY", "DIGEST", "")
_RIGHT = {"RANK", "SIZE", "ACCURACY"}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the versions grouped by alias, oldest first."""
    cells = [_cells(each) for each in rows]
    widths = [max(len(row[index]) for row in [_COLUMNS, *cells]) for index in range(len(_COLUMNS))]
    lines = []
    alias = ""
    for row, its in zip(rows, cells, strict=True):
        own = alias_name(row["client"], row["task"])
        if own != alias:
            lines += ["", own] if alias else [_line(_COLUMNS, widths), own]
            alias = own
        lines.append(_line(its, widths))
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    notes = {
        (True, True): "",
        (True, False): "not in the library here",
        (False, True): "not in the lock",
        (False, False): "",
    }
    return (
        row["version"],
        row["base"] or "?",
        _shown(row["rank"]),
        size(row["bytes"]),
        share(row["accuracy"]),
        (row["digest"] or "-")[:12],
        notes[row["in_lock"], row["in_library"]],
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if column in _RIGHT else cell.ljust(width)
        for cell, width, column in zip(cells, widths, _COLUMNS, strict=True)
    ]
    return f"  {'  '.join(parts)}".rstrip()


def page(document: Mapping[str, Any]) -> str:
    """Return everything known of one version."""
    lines = [document["adapter"], ""]
    if document["in_lock"]:
        lines += [
            f"  digest   {document['digest']}",
            f"  rank     {document['rank']}",
            f"  size     {size(document['bytes'])}",
            f"  modules  {', '.join(document['modules'])}",
        ]
    else:
        lines.append(f"  not in the lock; pin it: fleetctl adapter add {document['folder']} --as …")
    lines.append(f"  folder   {document['folder']}{'' if document['in_library'] else ' (absent)'}")
    lines += ["", "Training", *(_pairs(document["training"]) or ["  no training.json"])]
    lines += ["", "Evaluation"]
    for name, result in document["evals"].items():
        lines += [f"  {name}", *(f"  {line}" for line in _pairs(result))]
    lines += [] if document["evals"] else ["  no results in evals/"]
    lines += ["", "Deployments"]
    lines += [
        f"  {each['time']}  {each['what']}, by {each['by']}" for each in document["deployments"]
    ]
    lines += [] if document["deployments"] else ["  none in the ledger"]
    return "\n".join(lines) + "\n"


def _pairs(values: Mapping[str, Any]) -> list[str]:
    flat = list(_flat(values))
    width = max((len(name) for name, _ in flat), default=0)
    return [f"  {name:{width}}  {_shown(value)}" for name, value in flat]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def verdicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what a check found: each version that is not as pinned, then the count."""
    lines = [
        f"{each['state']:8}  {each['adapter']}: {each['detail']}" for each in rows if each["detail"]
    ]
    counts = {state: sum(each["state"] == state for each in rows) for state in _STATES}
    shown = ", ".join(f"{count} {_STATES[state]}" for state, count in counts.items() if count)
    return "\n".join([*lines, f"{shown or 'no versions'}"]) + "\n"


_STATES = {
    "ok": "as pinned",
    "changed": "changed",
    "missing": "missing",
    "unlocked": "not in the lock",
}


def size(number: int | None) -> str:
    """Return bytes in the unit that people read, such as `163 KB`; `-` where unknown."""
    if number is None:
        return "-"
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if number >= divisor:
            return f"{number / divisor:.1f} {unit}"
    return f"{number} B"


def share(value: float | None) -> str:
    """Return an accuracy of 0 to 1 as percent; `-` where there was no evaluation."""
    return "-" if value is None else f"{100 * value:.1f} %"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value)) or "-"
        case _:
            return str(value)
