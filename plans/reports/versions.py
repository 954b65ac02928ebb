"""Report adapter versions, their evaluations, and retraining that is due.

Every function takes the documents that `--format json` prints, so that both forms say the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fleet.codec import plain
from fleet.evals import EvalRecord, EvalRun, QualityDrift, decoding_of, spelled_as_utf8, summarize
from plans.tables import aligned, file_size, iso, percent

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


_OF_A_RUN = ("alias", "adapter", "digest", "purpose", "golden", "golden_digest")
_COLUMNS = (
    "RUN", "FINISHED", "ADAPTER", "PURPOSE", "ITEMS", "ACCURACY", "FORMAT", "HALLUCINATED", "",
)  # fmt: skip
_EVAL_NUMBERS = {_COLUMNS.index(title) for title in ("ITEMS", "ACCURACY", "FORMAT", "HALLUCINATED")}


def row(record: EvalRecord) -> dict[str, Any]:
    """Return an evaluation as a document."""
    names = ("run", "alias", "adapter", "purpose")
    shown = {name: getattr(record, name) for name in names}
    return {**shown, "finished": iso(record.at), "summary": dict(record.summary)}


def drift_row(alias: str, adapter: str, drift: QualityDrift) -> dict[str, Any]:
    """Return the finding of a drift rule about a version as a document."""
    return {"alias": alias, "adapter": adapter, **plain(drift)}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return evaluations, a line for every evaluation, oldest first."""
    cells = [_cells(evaluation) for evaluation in rows]
    return "\n".join(aligned([_COLUMNS, *cells], right=_EVAL_NUMBERS)) + "\n"


def _cells(evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    summary = evaluation["summary"]
    note = "; ".join(summary["faults"]) if summary.get("faults") else ""
    if summary.get("must_pass_failed"):
        note = f"must pass and failed: {', '.join(summary['must_pass_failed'][:3])}"
    counts = summary.get("valid") or not note
    made_up = "made up by the fake engine, says nothing of it" if summary.get("made_up") else ""
    return (
        evaluation["run"],
        evaluation["finished"][:16].replace("T", " "),
        evaluation["adapter"],
        evaluation["purpose"],
        str(summary["n"]),
        share(summary.get("accuracy")),
        share(summary.get("format")),
        share(summary.get("hallucination_rate")),
        "; ".join(filter(None, (note if counts else f"DOES NOT COUNT: {note}", made_up))),
    )


def drift_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the findings of drift rules, a line for every rule."""
    columns = ("adapter", "rule", "measure", "standing", "reason")
    cells = [[row[column] for column in columns] for row in rows]
    return "\n".join(aligned([("ADAPTER", "RULE", "MEASURE", "STANDING", ""), *cells])) + "\n"


def page(run: EvalRun, most: int | None) -> dict[str, Any]:
    """Return a run as a document, with at most `most` wrong answers; None: all."""
    wrong = [s for s in run.samples if s.error or min(s.scores.values(), default=0) < 1]
    return {
        "run": run.id,
        **{name: getattr(run, name) for name in _OF_A_RUN},
        "engine": run.engine_version,
        "fingerprints": list(run.fingerprints),
        "decoding": decoding_of(run.spec),
        "started": iso(run.started),
        "finished": iso(run.finished),
        "cached": run.cached,
        "summary": summarize(run),
        "wrong": [
            {
                "item": sample.item,
                "sample": sample.sample,
                "answer": spelled_as_utf8(sample.answer),
                "scores": dict(sample.scores),
                "why": sample.error or sample.note,
            }
            for sample in wrong[:most]
        ],
        "wrong_total": len(wrong),
    }


def page_text(document: Mapping[str, Any]) -> str:
    """Return a run as text."""
    summary = document["summary"]
    lines = [
        f"{document['adapter']} on {document['golden']} ({document['purpose']})",
        "",
        f"  finished       {document['finished'].replace('T', ' ')}",
        f"  engine         {document['engine']}, {', '.join(document['fingerprints']) or '?'}",
        f"  items          {summary['n']}, {summary['missing']} missing",
        f"  accuracy       {share(summary['accuracy'])}",
    ]
    for label, measure in (("format", "format"), ("hallucinated", "hallucination_rate")):
        if summary[measure] is not None:
            lines.append(f"  {label:14} {share(summary[measure])}")
    if summary.get("macro_f1") is not None:
        lines.append(f"  macro F1       {summary['macro_f1']:.3f}")
    lines += [f"  DOES NOT COUNT {fault}" for fault in summary["faults"]]
    lines += [f"  MUST PASS      {item} failed" for item in summary["must_pass_failed"]]
    if document["wrong"]:
        shown, total = len(document["wrong"]), document["wrong_total"]
        lines += ["", f"Not right ({shown} of {total})"]
        lines += [f"  {answer['item']}: {answer['why']}" for answer in document["wrong"]]
    return "\n".join(lines) + "\n"


def share(value: float | None) -> str:
    """Return a share from 0 to 1 as `62.4%`; `-` for none."""
    return "-" if value is None else f"{value:.1%}"


def judge_text(agreement: Mapping[str, Any]) -> str:
    """Return the agreement of a judge with labels of people as text."""
    judge = f"{agreement['model']} at {agreement['url']}"
    kappa = "-" if agreement["kappa"] is None else f"{agreement['kappa']:.2f}"
    lines = [
        f"{judge}, labels of {agreement['client']}: {agreement['labels']}",
        "",
        f"  labels         {agreement['n']}",
        f"  agreed         {agreement['agreed']}",
        f"  neither        {agreement['unparsable']} (neither YES nor NO; counted as disagreement)",
        f"  kappa          {kappa}",
    ]
    if agreement["differs"]:
        lines += ["", f"Not as people say (the first of {len(agreement['differs'])})"]
        lines += [
            f"  {label['id']}: {label['label']}, the judge says {label['judge']}"
            for label in agreement["differs"][:10]
        ]
    decides = f"It may decide gates of {agreement['client']}."
    why = f"It is advisory, and decides no gate of {agreement['client']}: {agreement['objection']}."
    return "\n".join([*lines, "", decides if agreement["decides"] else why]) + "\n"
