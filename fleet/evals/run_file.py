"""Writes and reads a run as lines of JSON: a head with the settings, then a line an answer.

The `command` engine reads the same lines: a program prints sample lines, no head needed.

    {"item": "t-1", "answer": "queue=shipping", "scores": {"accuracy": 1}, "finish": "stop"}
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from fleet.evals.golden_item import MEASURES
from fleet.evals.run import EvalRun, EvalSpec, JudgeSettings, Sample

VERSION = 1
_TYPES: Mapping[str, tuple[type, ...]] = {
    "item": (str,), "sample": (int,), "answer": (str,), "scores": (dict,), "note": (str,),
    "label": (str,), "expected_label": (str,), "finish": (str,),
    "output_tokens": (int, type(None)), "seconds": (int, float, type(None)), "model": (str,),
    "fingerprint": (str,), "retry": (bool,), "error": (str,),
}  # fmt: skip
_USUAL = {**asdict(Sample("")), "item": None}
"""Default of every field; a line leaves out fields with their default, but never `item`."""
_LINE_ENDS = "\x85\u2028\u2029"
"""Characters that JSON leaves as they are, and at which a text parts into lines."""


def lines_of(run: EvalRun) -> Iterable[str]:
    """Yield a run's lines, without newlines."""
    head = {field.name: getattr(run, field.name) for field in fields(run)}
    for name in ("samples", "spec", "started", "finished"):
        del head[name]
    started, finished = run.started.isoformat(), run.finished.isoformat()
    head |= {"spec": asdict(run.spec), "started": started, "finished": finished}
    yield _line({"eval_run": VERSION, **head})
    for sample in map(asdict, run.samples):
        yield _line({key: sample[key] for key in sample if sample[key] != _USUAL[key]})


def _line(document: Mapping[str, Any]) -> str:
    """Return a document as a single line; JSON reads back what `spelled_as_utf8` spells."""
    text = json.dumps(document, ensure_ascii=False)
    for line_end in _LINE_ENDS:
        text = text.replace(line_end, f"\\u{ord(line_end):04x}")
    return spelled_as_utf8(text)


def spelled_as_utf8(text: str) -> str:
    """Return a text that UTF-8 can hold: half a character, as models may say, is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def run_of(lines: Iterable[str]) -> EvalRun:
    """Read the lines that `lines_of` wrote.

    Raises:
        ValueError: the lines are of another form; the text names the line.
    """
    rest = iter(lines)
    head = _object(next(rest, ""), 1)
    if head.pop("eval_run", None) != VERSION:
        raise ValueError("line 1 is not the head of an evaluation of this version")
    try:
        spec = dict(head.pop("spec"))
        judge = spec.pop("judge", None)
        spec["command"] = tuple(spec.get("command", ()))
        whole = EvalSpec(**spec, judge=JudgeSettings(**judge) if judge else None)
        head |= {name: datetime.fromisoformat(head[name]) for name in ("started", "finished")}
        head |= {name: tuple(head[name]) for name in ("items", "must_pass")}
        samples = tuple(sample_of(line, number) for number, line in enumerate(rest, 2))
        return EvalRun(**head, spec=whole, samples=samples)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the head of an evaluation lacks or has too much: {error}") from None


def sample_of(line: str, number: int) -> Sample:
    """Read a sample line.

    Raises:
        ValueError: the line is no sample; the text names the line.
    """
    document = _object(line, number)
    if not isinstance(document.get("item"), str):
        raise ValueError(f"line {number} has no `item`")  # noqa: TRY004 (of the file, not the code)
    for key, value in document.items():
        if key not in _TYPES:
            raise ValueError(f"line {number}: unknown key `{key}`")
        if not isinstance(value, _TYPES[key]) or (isinstance(value, bool) and key != "retry"):
            raise ValueError(f"line {number}: `{key}` is {value!r}")
    for measure, score in document.get("scores", {}).items():
        if measure not in MEASURES:
            raise ValueError(f"line {number}: scores are {', '.join(MEASURES)}, not `{measure}`")
        if type(score) not in {int, float} or not 0 <= score <= 1:
            raise ValueError(f"line {number}: a score is a number from 0 to 1, not {score!r}")
    return Sample(**document)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"line {number} is not JSON: {line[:80]!r}") from None
    if not isinstance(document, dict):
        raise ValueError(f"line {number} is not a JSON object")  # noqa: TRY004 (of the file)
    return document
