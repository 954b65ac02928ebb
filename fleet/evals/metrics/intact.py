"""Scores whether an answer is as sound as an earlier answer to the same request, right or wrong."""

import json
from typing import Any

from fleet.evals.metrics import Answer, Metric, Options, Scored
from fleet.evals.metrics.texts import LENGTH_RATIO, REFUSAL
from fleet.response_format import ResponseFormat, check_format

LITTLE = 40
"""Upper bound of a difference in length that is none. Characters."""
CUT, FORM, REFUSED, LENGTH = "cut off", "another form", "refused", "much longer or shorter"
FLAWS = (CUT, FORM, REFUSED, LENGTH)
"""Notes of the metric; no text of an answer is in them."""


def _intact(answer: Answer, earlier: Any, options: Options, _: str) -> Scored:
    """Score 1 unless the answer is cut off, of another form, a refusal, or of another length."""
    text, before = answer.text.strip(), str(earlier).strip()
    wanted = options.get("format")
    broken = check_format(wanted, text) is False if wanted else _keys(text) != _keys(before)
    refuses = not REFUSAL.score(answer, None, {}, "").score
    refused = not REFUSAL.score(Answer(before), None, {}, "").score
    alike = (
        abs(len(text) - len(before)) <= LITTLE or LENGTH_RATIO.score(answer, before, {}, "").score
    )
    for flawed, note in (
        (not text or answer.finish not in {"stop", ""}, CUT),
        (broken, FORM),
        (refuses and not refused, REFUSED),
        (not alike, LENGTH),
    ):
        if flawed:
            return Scored(0.0, note)
    return Scored(1.0)


def _keys(text: str) -> Any:
    """Return the names of a JSON object, the word `array`, or None where a text is neither."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return (
        sorted(found) if isinstance(found, dict) else "array" if isinstance(found, list) else None
    )


def _fault(earlier: Any, options: Options) -> str:
    if "format" in options and not isinstance(options["format"], ResponseFormat):
        return "the adapter declares its format; an item cannot"
    return "" if isinstance(earlier, str) else "`expected` is a text, an earlier answer"


INTACT = Metric(_intact, _fault, frozenset({"format"}))
