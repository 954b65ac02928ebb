"""Scores answers of a fixed form: classes, JSON and numbers."""

import json
import math
import re
from typing import Any

from fleet.evals.metrics import Answer, Metric, Options, Scored
from fleet.evals.metrics.texts import fault, normalised
from fleet.response_format import FormatKind, ResponseFormat, check_format, flaw

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")
_POINT = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d+),\d+(?:[eE][-+]?\d+)?")
_MINUS = "\u2212"
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b")
_QUOTE = re.compile(r"[\"“„«]([^\"“”„«»]{3,})[\"”»]")
SHOWN_NUMBERS = 3


def numbers(text: str) -> list[float]:
    """Return the numbers of a text in their order.

    Commas may separate thousands, `1,234.5`; a comma that cannot separate thousands is the decimal
    comma, as in `3,5` and `1.234,50`; `1,2,3` are three numbers.
    """
    values: list[float] = []
    for run in _NUMBER.findall(text.replace(_MINUS, "-")):
        if _POINT.fullmatch(run):
            values.append(float(run.replace(",", "")))
        elif _COMMA.fullmatch(run):
            values.append(float(run.replace(".", "").replace(",", ".")))
        else:
            values += [float(part.group()) for part in map(_POINT.match, run.split(",")) if part]
    return values


def _numeric(answer: Answer, expected: Any, options: Options, _: str) -> Scored:
    found = numbers(answer.text)
    if not found:
        return Scored(0.0, "no number in the answer")
    actual = found[0] if options.get("take", "last") == "first" else found[-1]
    relative, absolute = options.get("relative", 0.0), options.get("absolute", 1e-9)
    right = math.isclose(actual, float(expected), rel_tol=relative, abs_tol=absolute)
    return Scored(1.0) if right else Scored(0.0, f"said {actual:g}")


def _numeric_fault(expected: Any, options: Options) -> str:
    if not _is_number(expected):
        return "`expected` is a number"
    if options.get("take", "last") not in ("first", "last"):
        return "`take` is `first` or `last`"
    tolerances = [options.get(key, 0.0) for key in ("relative", "absolute")]
    if not _are_numbers(tolerances) or min(tolerances) < 0:
        return "`relative` and `absolute` are tolerances of 0 or more"
    return ""


def _is_number(given: Any) -> bool:
    """Say whether a value is a finite number, or the text of a number."""
    try:
        return not isinstance(given, bool) and math.isfinite(float(given))
    except (TypeError, ValueError, OverflowError):
        return False


def _are_numbers(given: Any) -> bool:
    return isinstance(given, list) and all(
        _is_number(number) and not isinstance(number, str) for number in given
    )


def claims(text: str) -> list[str]:
    """Return the claims that a source can prove: quotations, dates, and other numbers."""
    quotations = [quotation.strip() for quotation in _QUOTE.findall(text)]
    rest = _DATE.sub(" ", text).replace(_MINUS, "-")
    return quotations + _DATE.findall(text) + _NUMBER.findall(rest)


def _grounded(answer: Answer, _: Any, options: Options, source: str) -> Scored:
    """Score 0 where a number, date or quotation of the answer is not in the source.

    A cheap sign of hallucination that misses invented words, and marks a sum as invented.
    """
    known = set(numbers(source)) | {float(option) for option in options.get("allow", ())}
    plain = " ".join(source.casefold().split())
    invented = [claim for claim in claims(answer.text) if not _known(claim, known, plain)]
    if not invented:
        return Scored(1.0)
    return Scored(0.0, f"not in the context: {', '.join(invented[:SHOWN_NUMBERS])}")


def _known(claim: str, known: set[float], plain: str) -> bool:
    if _NUMBER.fullmatch(claim) and not _DATE.fullmatch(claim):
        return known.issuperset(numbers(claim))
    words = re.escape(" ".join(claim.casefold().split()))
    return re.search(rf"(?<!\w){words}(?!\w)", plain) is not None


def _grounded_fault(_: Any, options: Options) -> str:
    return "" if _are_numbers(options.get("allow", [])) else "`allow` is a list of numbers"


NUMERIC = Metric(_numeric, _numeric_fault, frozenset({"relative", "absolute", "take"}))
GROUNDED_NUMBERS = Metric(_grounded, _grounded_fault, frozenset({"allow"}), needs_expected=False)


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
