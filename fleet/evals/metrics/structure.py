"""Scores answers of a fixed form: classes and JSON."""

import json
import re
from typing import Any

from fleet.evals.metrics import Answer, Metric, Options, Scored
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
    actual = normalised(text, options)
    plain = {normalised(label, options): label for label in labels}
    if actual in plain:
        return plain[actual]
    # The longest first: the answer "bug report" does not name "bug".
    names = "|".join(map(re.escape, sorted(filter(None, plain), key=len, reverse=True)))
    matches = re.findall(rf"(?<!\w)(?:{names})(?!\w)", actual) if names else []
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
        actual = json.loads(answer.text)
    except (ValueError, RecursionError) as error:
        return Scored(0.0, f"not JSON: {str(error)[:SHOWN]}")
    if not isinstance(actual, dict):
        return Scored(0.0, "not a JSON object")
    reference = json.loads(expected) if isinstance(expected, str) else expected
    names = options.get("fields") or list(reference)
    reference = {name: reference[name] for name in names if name in reference}
    given = {name: actual[name] for name in actual if not options.get("fields") or name in names}
    both = reference.keys() & given.keys()
    right = {name for name in both if _same(given[name], reference[name], options)}
    precision, recall = len(right) / max(1, len(given)), len(right) / max(1, len(reference))
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    wrong = sorted({*reference, *given} - right)
    score = float(not wrong) if options.get("all") else f1
    note = f"wrong fields: {', '.join(wrong)}"[:SHOWN] if wrong else ""
    return Scored(score, note)


def _same(actual: Any, reference: Any, options: Options) -> bool:
    if isinstance(actual, str) and isinstance(reference, str):
        return normalised(actual, options) == normalised(reference, options)
    if isinstance(actual, dict) and isinstance(reference, dict):
        return actual.keys() == reference.keys() and all(
            _same(actual[name], reference[name], options) for name in reference
        )
    if isinstance(actual, list) and isinstance(reference, list):
        pairs = zip(actual, reference, strict=False)
        return len(actual) == len(reference) and all(_same(*pair, options) for pair in pairs)
    if isinstance(actual, bool) or isinstance(reference, bool):
        return actual is reference
    return bool(actual == reference)


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
