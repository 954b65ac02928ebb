"""Report evaluations: a list, a run with wrong answers, drift of quality, agreement of a judge.

Renderers take the documents that `--format json` prints, so that both forms say the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.codec import plain
from fleet.evals import EvalRecord, EvalRun, QualityDrift, spelled_as_utf8, summarize
from plans.tables import aligned, iso

_OF_A_RUN = ("alias", "adapter", "digest", "purpose", "golden", "golden_digest")
_COLUMNS = (
    "RUN", "FINISHED", "ADAPTER", "PURPOSE", "ITEMS", "ACCURACY", "FORMAT", "HALLUCINATED", "",
)  # fmt: skip
_NUMBERS = {_COLUMNS.index(title) for title in ("ITEMS", "ACCURACY", "FORMAT", "HALLUCINATED")}


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
    return "\n".join(aligned([_COLUMNS, *cells], right=_NUMBERS)) + "\n"


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
        "decoding": run.spec.decoding(),
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
