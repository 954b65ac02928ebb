"""Formats of answers: what has one, what has none, and what is no format."""

import pytest

from fleet.response_format import MAX_TEXT, FormatKind, ResponseFormat, check_format, flaw

JSON = ResponseFormat(FormatKind.JSON)
PRIORITY = ResponseFormat(FormatKind.REGEX, "queue=[a-z]+ priority=P[1-3]|none")
LABELS = ResponseFormat(FormatKind.LABELS, labels=("billing", "delivery"))
SCHEMA = ResponseFormat(
    FormatKind.SCHEMA,
    '{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}',
)


@pytest.mark.parametrize(
    ("wanted", "text", "has_it"),
    [
        (JSON, '{"a": 1}', True),
        (JSON, " [1]\n", True),
        (JSON, "1", False),  # a value, and yet nobody who asks for JSON means it
        (JSON, '{"a": NaN}', False),
        (JSON, '{"a": 1', False),
        (JSON, '```json\n{"a": 1}\n```', False),
        (JSON, "[" * 50_000, False),
        (PRIORITY, "queue=billing priority=P2", True),
        (PRIORITY, " none ", True),
        (PRIORITY, "queue=billing priority=P2 or so", False),
        (PRIORITY, "x none", False),
        (PRIORITY, "none\nnone", False),
        (LABELS, "billing\n", True),
        (LABELS, "Billing", False),
        (LABELS, "billing delivery", False),
        (LABELS, "", False),
        (SCHEMA, '{"id": 3, "more": []}', True),
        (SCHEMA, '{"id": "3"}', False),
        (SCHEMA, "3", False),
        (SCHEMA, "no", False),
        (SCHEMA, '{"id": 3, "odd": "\\ud800"}', True),
        (LABELS, "x" * MAX_TEXT, False),
        (LABELS, "x" * (MAX_TEXT + 1), None),
    ],
)
def test_an_answer_has_its_form_or_not(
    wanted: ResponseFormat,
    text: str,
    has_it: bool | None,  # noqa: FBT001 (a column of the table)
) -> None:
    assert flaw(wanted) == ""
    assert check_format(wanted, text) is has_it


def test_no_answer_makes_a_pattern_slow() -> None:
    """A backtracking engine would take longer than the age of the universe."""
    assert check_format(ResponseFormat(FormatKind.REGEX, "(a+)+b"), "a" * 60_000) is False


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (ResponseFormat(FormatKind.REGEX, "("), "regex"),
        (ResponseFormat(FormatKind.REGEX, "a)|(b"), "regex"),  # it would end the brackets around it
        (ResponseFormat(FormatKind.REGEX, "(?=a)b"), "regex"),  # look-ahead: not in linear time
        (ResponseFormat(FormatKind.SCHEMA, '{"type": "strin"}'), "strin"),
        (ResponseFormat(FormatKind.SCHEMA, "{"), "line 1"),
        (ResponseFormat(FormatKind.SCHEMA, "3"), "an object is one"),
        (ResponseFormat(FormatKind.SCHEMA, '{"$ref": "http://127.0.0.1:1/a"}'), "cannot refer"),
        (ResponseFormat(FormatKind.SCHEMA, '{"$ref": "file:///etc/hostname"}'), "cannot refer"),
        (ResponseFormat(FormatKind.SCHEMA, '{"title": "%s"}' % ("x" * 70_000)), "characters"),
        (ResponseFormat(FormatKind.LABELS), "no label"),
    ],
)
def test_what_is_no_format_is_told(wanted: ResponseFormat, says: str) -> None:
    assert says in flaw(wanted)
