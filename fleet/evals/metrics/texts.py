"""Scores the text of an answer, after normalisers that remove differences that do not count."""

import json
import string
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from fleet.evals.metrics import Answer, Metric, Options, Scored
from fleet.response_format import FormatKind, ResponseFormat, check_format, flaw

NORMALISERS: Mapping[str, Callable[[str], str]] = {
    "strip": str.strip,
    "casefold": str.casefold,
    "whitespace": lambda text: " ".join(text.split()),
    "unicode": lambda text: unicodedata.normalize("NFKC", text),
    "punctuation": lambda text: text.translate(str.maketrans("", "", string.punctuation)),
}
USUAL = ("strip",)


def normalised(text: str, options: Mapping[str, Any]) -> str:
    """Return the text after the normalisers that `options` names, in their order."""
    for name in options.get("normalise", USUAL):
        text = NORMALISERS[name](text)
    return text


def fault(options: Mapping[str, Any]) -> str:
    """Return the fault of the normalisers that `options` names."""
    names = options.get("normalise", USUAL)
    if not isinstance(names, list | tuple):
        return f"`normalise` is a list of {', '.join(NORMALISERS)}"
    unknown = [str(name) for name in names if name not in list(NORMALISERS)]  # a list has no hash
    if unknown:
        return f"`normalise` knows {', '.join(NORMALISERS)}, not {', '.join(unknown)}"
    return ""


SHOWN = 60
REFUSALS = (
    r"\bI(?:'m| am) (?:sorry|unable|not able)\b",
    r"\bI (?:can(?:no|')t|won't|will not) (?:help|assist|do|provide|answer|comply|fulfil)",
    r"\bas an AI\b",
    r"\bagainst my (?:guidelines|policy|policies)\b",
)
"""Beginnings of a refusal, in English; an item may name others with `patterns`.

Matched in linear time, anywhere in the answer and in either case; a typographic apostrophe counts
as a plain apostrophe.
"""
_APOSTROPHES = str.maketrans("\u2019\u2018\u02bc", "'''")


def _exact(answer: Answer, expected: Any, options: Options, _: str) -> Scored:
    actual, reference = normalised(answer.text, options), normalised(str(expected), options)
    return _judged(actual == reference, f"said {actual[:SHOWN]!r}")


def _contains(answer: Answer, expected: Any, options: Options, _: str) -> Scored:
    actual = normalised(answer.text, options)
    texts = [expected] if isinstance(expected, str) else list(expected)
    missing = [text for text in texts if normalised(text, options) not in actual]
    if options.get("any"):
        return _judged(len(missing) < len(texts), f"none of {texts}")
    return _judged(not missing, f"lacks {missing}")


def _regex(answer: Answer, expected: Any, options: Options, _: str) -> Scored:
    actual = normalised(answer.text, options)
    right = bool(check_format(_pattern(expected, options), actual))
    return _judged(right, f"{actual[:SHOWN]!r} does not match")


def _pattern(expected: Any, options: Options) -> ResponseFormat:
    """Return the pattern as a format, which is matched in linear time."""
    pattern = str(options.get("pattern", expected))
    return _anywhere(pattern) if options.get("anywhere") else _exactly(pattern)


def _exactly(pattern: str) -> ResponseFormat:
    return ResponseFormat(FormatKind.REGEX, pattern)


def _anywhere(pattern: str) -> ResponseFormat:
    return _exactly(rf"[\s\S]*(?:{pattern})[\s\S]*")


def _finish(answer: Answer, _: Any, options: Options, __: str) -> Scored:
    allowed = options.get("allowed", ("stop",))
    return _judged(answer.finish in allowed, f"ended with `{answer.finish}`")


def _length_ratio(answer: Answer, expected: Any, options: Options, _: str) -> Scored:
    """Compare lengths in characters: a wordy answer costs tokens and time."""
    ratio = len(answer.text.strip()) / max(1, len(str(expected).strip()))
    least, most = options.get("min", 0.5), options.get("max", 2.0)
    return _judged(least <= ratio <= most, f"{ratio:.2f} times as long as expected")


def _refusal(answer: Answer, _: Any, options: Options, __: str) -> Scored:
    """Score 1 where the model answers, or with `wanted: true` where it refuses."""
    patterns = options.get("patterns", REFUSALS)
    text = answer.text.translate(_APOSTROPHES)
    refused = any(check_format(_refusing(pattern), text) for pattern in patterns)
    expects_refusal = bool(options.get("wanted", False))
    return _judged(refused == expects_refusal, "refused" if refused else "did not refuse")


def _refusing(pattern: str) -> ResponseFormat:
    return _anywhere(f"(?i:{pattern.translate(_APOSTROPHES)})")


def _judged(right: bool, note: str) -> Scored:  # noqa: FBT001 (the verdict itself)
    return Scored(1.0) if right else Scored(0.0, note)


def _text_fault(expected: Any, options: Options) -> str:
    if not isinstance(expected, str):
        return "`expected` is a text"
    return fault(options)


def _contains_fault(expected: Any, options: Options) -> str:
    listed = isinstance(expected, list) and all(isinstance(text, str) for text in expected)
    if not (isinstance(expected, str) and expected) and not (listed and expected):
        return "`expected` is a text, or a list of texts"
    return fault(options)


def _regex_fault(expected: Any, options: Options) -> str:
    pattern = options.get("pattern", expected)
    if not isinstance(pattern, str):
        return "it needs a pattern, as `expected` or as option `pattern`"
    wrong = flaw(_exactly(pattern)) or flaw(_pattern(expected, options))
    return _no_pattern(pattern, wrong) if wrong else fault(options)


def _no_pattern(pattern: Any, wrong: str) -> str:
    return f"{pattern!r} is not a regular expression: {wrong.removesuffix('.')}"


def _refusal_fault(_: Any, options: Options) -> str:
    patterns = options.get("patterns", REFUSALS)
    if not isinstance(patterns, list | tuple):
        return "`patterns` is a list of regular expressions"
    for pattern in patterns:
        wrong = flaw(_refusing(pattern)) if isinstance(pattern, str) else "it is not a text"
        if wrong:
            return _no_pattern(pattern, wrong)
    return ""


def _ratio_fault(expected: Any, options: Options) -> str:
    bounds = (options.get("min", 0.5), options.get("max", 2.0))
    if not all(isinstance(bound, int | float) for bound in bounds) or bounds[0] > bounds[1]:
        return "`min` and `max` are numbers, the smaller first"
    return "" if isinstance(expected, str) and expected.strip() else "`expected` is a text"


def _finish_fault(_: Any, options: Options) -> str:
    allowed = options.get("allowed", ["stop"])
    return "" if isinstance(allowed, list) and allowed else "`allowed` is a list such as [stop]"


_NORMALISE = frozenset({"normalise"})
EXACT = Metric(_exact, _text_fault, _NORMALISE)
CONTAINS = Metric(_contains, _contains_fault, _NORMALISE | {"any"})
REGEX = Metric(_regex, _regex_fault, _NORMALISE | {"pattern", "anywhere"}, needs_expected=False)
FINISH = Metric(_finish, _finish_fault, frozenset({"allowed"}), needs_expected=False)
LENGTH_RATIO = Metric(_length_ratio, _ratio_fault, frozenset({"min", "max"}))
REFUSAL = Metric(_refusal, _refusal_fault, frozenset({"patterns", "wanted"}), needs_expected=False)


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
