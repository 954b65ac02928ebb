"""Scores the numbers in an answer."""

import math
import re
from typing import Any

from fleet.evals.metrics import Answer, Metric, Options, Scored

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")
_POINT = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d+),\d+(?:[eE][-+]?\d+)?")
_MINUS = "\u2212"
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b")
_QUOTE = re.compile(r"[\"“„«]([^\"“”„«»]{3,})[\"”»]")
SHOWN = 3


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
    return Scored(0.0, f"not in the context: {', '.join(invented[:SHOWN])}")


def _known(claim: str, known: set[float], plain: str) -> bool:
    if _NUMBER.fullmatch(claim) and not _DATE.fullmatch(claim):
        return known.issuperset(numbers(claim))
    words = re.escape(" ".join(claim.casefold().split()))
    return re.search(rf"(?<!\w){words}(?!\w)", plain) is not None


def _grounded_fault(_: Any, options: Options) -> str:
    return "" if _are_numbers(options.get("allow", [])) else "`allow` is a list of numbers"


NUMERIC = Metric(_numeric, _numeric_fault, frozenset({"relative", "absolute", "take"}))
GROUNDED_NUMBERS = Metric(_grounded, _grounded_fault, frozenset({"allow"}), needs_expected=False)
