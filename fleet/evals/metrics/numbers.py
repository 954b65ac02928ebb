"""Scores the numbers in an answer."""

import math
import re
from typing import Any

from fleet.evals.answer import Answer, Metric, Options, Scored

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")
_POINT = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d+),\d+(?:[eE][-+]?\d+)?")
_MINUS = "\u2212"
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b")
_QUOTE = re.compile(r"[\"“„«]([^\"“”„«»]{3,})[\"”»]")
SHOWN = 3


def numbers(text: str) -> list[float]:
    """Return the numbers of a text in their order.

    Thousands may be parted by commas, `1,234.5`; a comma that cannot part thousands is the
    decimal one, as in `3,5` and `1.234,50`; of `1,2,3` each is a number.
    """
    runs = (match_.group() for match_ in _NUMBER.finditer(text.replace(_MINUS, "-")))
    return [value for run in runs for value in _values(run)]


def _values(run: str) -> list[float]:
    if _POINT.fullmatch(run):
        return [float(run.replace(",", ""))]
    if _COMMA.fullmatch(run):
        return [float(run.replace(".", "").replace(",", "."))]
    return [float(found.group()) for part in run.split(",") if (found := _POINT.match(part))]


def _numeric(answer: Answer, expected: Any, options: Options, _: str) -> Scored:
    found = numbers(answer.text)
    if not found:
        return Scored(0.0, "no number in the answer")
    said = found[0] if options.get("take", "last") == "first" else found[-1]
    right = math.isclose(
        said, float(expected), rel_tol=options.get("relative", 0.0),
        abs_tol=options.get("absolute", 1e-9),
    )  # fmt: skip
    return Scored(1.0) if right else Scored(0.0, f"said {said:g}")


def _numeric_fault(expected: Any, options: Options) -> str:
    if not _is_number(expected):
        return "`expected` is a number"
    if options.get("take", "last") not in ("first", "last"):
        return "`take` is `first` or `last`"
    tolerances = (options.get("relative", 0.0), options.get("absolute", 0.0))
    if not all(
        _is_number(tolerance) and not isinstance(tolerance, str) and tolerance >= 0
        for tolerance in tolerances
    ):
        return "`relative` and `absolute` are tolerances of 0 or more"
    return ""


def _is_number(given: Any) -> bool:
    """Say whether a value is a finite number, or the text of a number."""
    try:
        return not isinstance(given, bool) and math.isfinite(float(given))
    except (TypeError, ValueError, OverflowError):
        return False


def claims(text: str) -> list[str]:
    """Return the claims that a source can prove: quotations, dates, and other numbers."""
    found = [match_.group(1).strip() for match_ in _QUOTE.finditer(text)]
    dates = [match_.group() for match_ in _DATE.finditer(text)]
    rest = _DATE.sub(" ", text).replace(_MINUS, "-")
    return found + dates + [match_.group() for match_ in _NUMBER.finditer(rest)]


def _grounded(answer: Answer, _: Any, options: Options, source: str) -> Scored:
    """Score 0 where a number, date or quotation of the answer is not in the source.

    A cheap sign of hallucination: it misses invented words, and marks a sum as invented.
    """
    known = set(numbers(source)) | {float(option) for option in options.get("allow", ())}
    plain = " ".join(source.casefold().split())
    invented = [claim for claim in claims(answer.text) if not _known(claim, known, plain)]
    if not invented:
        return Scored(1.0)
    return Scored(0.0, f"not in the context: {', '.join(invented[:SHOWN])}")


def _known(claim: str, known: set[float], plain: str) -> bool:
    if _NUMBER.fullmatch(claim) and not _DATE.fullmatch(claim):
        return known.issuperset(numbers(claim))
    words = re.escape(" ".join(claim.casefold().split()))
    return re.search(rf"(?<!\w){words}(?!\w)", plain) is not None


def _grounded_fault(_: Any, options: Options) -> str:
    allowed = options.get("allow", [])
    fine = isinstance(allowed, list) and all(
        _is_number(number) and not isinstance(number, str) for number in allowed
    )
    return "" if fine else "`allow` is a list of numbers"


NUMERIC = Metric(_numeric, _numeric_fault, frozenset({"relative", "absolute", "take"}))
GROUNDED_NUMBERS = Metric(
    _grounded, _grounded_fault, frozenset({"allow"}), needs_expected=False, source=True
)
