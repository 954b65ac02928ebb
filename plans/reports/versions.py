"""Report adapter versions: a list, a version, a check of all, retraining that is due.

Every function takes the documents that `--format json` prints, so that both forms say the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plans.tables import aligned, file_size, percent

_VERSION_COLUMNS = ("VERSION", "BASE", "RANK", "SIZE", "ACCURACY", "DIGEST", "")
_RETRAINING_COLUMNS = ("TURN", "ADAPTER", "TRAINED", "NEXT", "CLAIMED BY", "")
_NUMBERS = {_VERSION_COLUMNS.index(title) for title in ("RANK", "SIZE", "ACCURACY")}
_STATES = {
    "ok": "as pinned",
    "changed": "changed",
    "missing": "missing",
    "unlocked": "not in the lock",
    "unproven": "not signed as the lock says",
}


def render_versions(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the versions grouped by alias, oldest first."""
    cells = [_VERSION_COLUMNS, *map(_version_cells, rows)]
    heading, *table = aligned(cells, indent="  ", right=_NUMBERS)
    lines, alias = [], ""
    for row, line in zip(rows, table, strict=True):
        own = f"{row['client']}-{row['task']}"
        if own != alias:
            lines += ["", own] if alias else [heading, own]
            alias = own
        lines.append(line)
    return "\n".join(lines) + "\n"


def _version_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    notes = {(True, False): "not in the library here", (False, True): "not in the lock"}
    accuracy = row["accuracy"]
    return (
        row["version"],
        row["base"] or "?",
        _shown(row["rank"]),
        file_size(row["bytes"]),
        "-" if accuracy is None else percent(accuracy, 1),
        (row["digest"] or "-")[:12],
        notes.get((row["in_lock"], row["in_library"]), ""),
    )


def render_version(document: Mapping[str, Any]) -> str:
    """Return a version in full."""
    lines = [document["adapter"], ""]
    if document["in_lock"]:
        lines += [
            f"  digest     {document['digest']}",
            f"  rank       {document['rank']}",
            f"  size       {file_size(document['bytes'])}",
            f"  modules    {', '.join(document['modules'])}",
            f"  source     {document['source'] or 'a folder'}",
        ]
    else:
        lines.append(f"  not in the lock; pin it: fleetctl adapter add {document['folder']} --as …")
    present = document["in_library"]
    lines += [
        f"  signature  {_signature(document['signature'], in_library=present)}",
        f"  folder     {document['folder']}{'' if present else ' (absent)'}",
    ]
    lines += ["", "Training", *(_pairs(document["training"]) or ["  no training.json"])]
    lines += ["", "Evaluation"]
    for name, result in document["evals"].items():
        lines += [f"  {name}", *(f"  {line}" for line in _pairs(result))]
    lines += [] if document["evals"] else ["  no results in evals/"]
    deployments = [
        f"  {deployment['time']}  {deployment['what']}, by {deployment['by']}"
        for deployment in document["deployments"]
    ]
    lines += ["", "Deployments", *(deployments or ["  none in the ledger"])]
    return "\n".join(lines) + "\n"


def _signature(signature: Mapping[str, Any], *, in_library: bool) -> str:
    """Return the signature of a version as words."""
    key = (signature["key"] or "")[:12]
    by = f"by `{signature['signed_by']}`, key {key}"
    stranger = "by no key that was declared when the version was added, or damaged"
    if key:
        stranger = f"by key {key}, which is not declared"
        why = f"by key {key}, and the declared keys cannot be read"
    elif in_library:
        why = "`model.sig` is there and was not checked"
    else:
        why = "none in the lock, and the version is not in the library here"
    words = {
        "verified": by,
        "expired": f"{by}, whose last day was {signature['until']}",
        "changed": f"{by}, not for these bytes",
        "unknown_key": stranger,
        "unsigned": "none",
        "unknown": f"unknown: {why}",
    }
    return words[signature["state"]]


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


def render_checks(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the versions that are not as pinned, a line for every version, then the counts."""
    lines = [
        f"{row['state']:8}  {row['adapter']}: {row['detail']}" for row in rows if row["detail"]
    ]
    counts = {state: sum(row["state"] == state for row in rows) for state in _STATES}
    shown = ", ".join(f"{count} {_STATES[state]}" for state, count in counts.items() if count)
    return "\n".join([*lines, shown or "no versions"]) + "\n"


def render_retraining(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the retraining of adapters, a line for every adapter."""
    return "\n".join(aligned([_RETRAINING_COLUMNS, *map(_retraining_cells, rows)])) + "\n"


def _retraining_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    claim = row["claim"]
    return (
        row["turn"],
        row["adapter"],
        (row["trained"] or "-")[:10],
        (row["next"] or "-")[:10],
        f"{claim['by']} until {claim['until'][:10]}" if claim else "-",
        row["reason"],
    )
