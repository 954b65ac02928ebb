"""Scores answers of a fixed form: classes and JSON."""

import json
import re
from typing import Any

from fleet.evals.answer import Answer, Metric, Options, Scored
from fleet.evals.metrics.texts import fault, normalised
from fleet.response_format import FormatKind, ResponseFormat, check_format, flaw

SHOWN = 80


def _label(answer: Answer, expected: Any, options: Options, _: str) -> Scored:
    """Recognise the class that the answer names; an answer with two classes names none."""
    named = recognised(answer.text, options.get("labels", [expected]), options)
    if named == expected:
        return Scored(1.0, label=named)
    return Scored(0.0, f"said {named!r}" if named else "names no class, or several", named)


def recognised(text: str, labels: list[str], options: Options) -> str:
    """Return the class that a text is or names; empty: none or several."""
    said = normalised(text, options)
    plain = {normalised(label, options): label for label in labels}
    if said in plain:
        return plain[said]
    # The longest first: the answer "bug report" does not name "bug".
    names = "|".join(map(re.escape, sorted(filter(None, plain), key=len, reverse=True)))
    matches = re.findall(rf"(?<!\w)(?:{names})(?!\w)", said) if names else []
    named = {plain[name] for name in matches}
    return named.pop() if len(named) == 1 else ""


def _label_fault(expected: Any, options: Options) -> str:
    labels = options.get("labels", [expected])
    texts = isinstance(labels, list) and all(isinstance(label, str) and label for label in labels)
    if not isinstance(expected, str) or not texts:
        return "`expected` is a text and `labels` a list of texts"
    if expected not in labels:
        return f"`expected` {expected!r} is not one of the labels {', '.join(labels)}"
    return fault(options)


def _json_schema(answer: Answer, expected: Any, options: Options, _: str) -> Scored:
    return _formed(answer.text, _schema(options.get("schema", expected)), "the schema")


def _declared(answer: Answer, _: Any, options: Options, __: str) -> Scored:
    """Score the form that the adapter declares, as the gateway does on live answers."""
    return _formed(answer.text, options["format"], options["format"].shown)


def _formed(text: str, wanted: ResponseFormat, shown: str) -> Scored:
    if check_format(wanted, text):
        return Scored(1.0)
    return Scored(0.0, f"{text[:SHOWN]!r} has not the form of {shown}")


def _schema(schema: Any) -> ResponseFormat:
    return ResponseFormat(FormatKind.SCHEMA, json.dumps(schema, sort_keys=True))


def _schema_fault(expected: Any, options: Options) -> str:
    schema = options.get("schema", expected)
    if not isinstance(schema, dict):
        return "it needs a JSON Schema, as option `schema` or as `expected`"
    wrong = flaw(_schema(schema))
    return f"not a JSON Schema: {wrong[:300].removesuffix('.')}" if wrong else ""


def _declared_fault(_: Any, options: Options) -> str:
    fine = isinstance(options.get("format"), ResponseFormat)
    return "" if fine else "the adapter declares its format; an item cannot"


def _json_fields(answer: Answer, expected: Any, options: Options, _: str) -> Scored:
    """Score an extraction by the F1 of its fields; `all: true` wants every field right."""
    try:
        said = json.loads(answer.text)
    except (ValueError, RecursionError) as error:
        return Scored(0.0, f"not JSON: {str(error)[:SHOWN]}")
    if not isinstance(said, dict):
        return Scored(0.0, "not a JSON object")
    wanted = json.loads(expected) if isinstance(expected, str) else expected
    names = options.get("fields") or list(wanted)
    wanted = {name: wanted[name] for name in names if name in wanted}
    given = {name: said[name] for name in said if not options.get("fields") or name in names}
    right = {
        name for name in wanted.keys() & given.keys() if _same(given[name], wanted[name], options)
    }
    precision, recall = len(right) / max(1, len(given)), len(right) / max(1, len(wanted))
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    wrong = sorted({*wanted, *given} - right)
    score = float(not wrong) if options.get("all") else f1
    note = f"wrong fields: {', '.join(wrong)}"[:SHOWN] if wrong else ""
    return Scored(score, note, parts={"precision": precision, "recall": recall})


def _same(said: Any, wanted: Any, options: Options) -> bool:
    if isinstance(said, str) and isinstance(wanted, str):
        return normalised(said, options) == normalised(wanted, options)
    if isinstance(said, dict) and isinstance(wanted, dict):
        return said.keys() == wanted.keys() and all(
            _same(said[name], wanted[name], options) for name in wanted
        )
    if isinstance(said, list) and isinstance(wanted, list):
        pairs = zip(said, wanted, strict=False)
        return len(said) == len(wanted) and all(_same(*pair, options) for pair in pairs)
    if isinstance(said, bool) or isinstance(wanted, bool):
        return said is wanted
    return bool(said == wanted)


def _fields_fault(expected: Any, options: Options) -> str:
    if isinstance(expected, str):
        try:
            expected = json.loads(expected)
        except (ValueError, RecursionError):
            return "`expected` is a JSON object"
    if not isinstance(expected, dict) or not expected:
        return "`expected` is a JSON object with at least one field"
    fields = options.get("fields", list(expected))
    named = isinstance(fields, list) and all(field in list(expected) for field in fields)
    if not named or not fields:
        return f"`fields` names some of {', '.join(expected)}"
    return fault(options)


LABEL = Metric(_label, _label_fault, frozenset({"labels", "normalise"}))
JSON_SCHEMA = Metric(_json_schema, _schema_fault, frozenset({"schema"}), needs_expected=False)
DECLARED_FORMAT = Metric(_declared, _declared_fault, frozenset({"format"}), needs_expected=False)
JSON_FIELDS = Metric(_json_fields, _fields_fault, frozenset({"fields", "all", "normalise"}))
