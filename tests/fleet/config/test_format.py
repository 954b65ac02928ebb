"""The canonical form: values, comments and their keys stay; once is enough."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet.config.edit import comment_lines, format_text
from fleet.config.files.yaml import parse
from fleet.errors import ConfigError
from tests.broken.project import ACME, FLEET

UNTIDY = """\
# yaml-language-server: $schema=x
clients:
  # the first
  acme:
    adapters:
      # why support
      support:
        version:   '2.1.0'   # newest
        demand: { peak_rpm: 30,hours: "09-18" }
        base: tiny
        smoke:
          - >-
            folded # no comment

            text
          - 'it''s'


    # tier comment
    tier: premium # gold
    keys: {prod: 'env:X'}
  # beta
  beta: {}
tiers: {a: {}}


# about fleet
fleet: x
# end
"""
TIDY = """\
# yaml-language-server: $schema=x
# about fleet
fleet: x
tiers: {a: {}}

clients:
  # the first
  acme:
    # tier comment
    tier: premium  # gold
    keys: {prod: "env:X"}
    adapters:
      # why support
      support:
        base: tiny
        version: "2.1.0"  # newest
        smoke:
          - >-
            folded # no comment

            text
          - 'it''s'
        demand: {peak_rpm: 30, hours: "09-18"}
  # beta
  beta: {}

# end
"""


def test_the_canonical_form() -> None:
    assert format_text(UNTIDY, "f.yaml") == TIDY


@pytest.mark.parametrize("text", [TIDY, FLEET, ACME, "fleet: x\nlibrary: y\n", "x: [a, b]\n"])
def test_canonical_text_stays_as_it_is(text: str) -> None:
    again = format_text(text, "f.yaml")
    assert format_text(again, "f.yaml") == again


def test_windows_line_ends_and_a_byte_order_mark_are_removed() -> None:
    assert (
        format_text("\ufefffleet: x\r\nlibrary: y  \r\n\r\n", "f.yaml") == "fleet: x\nlibrary: y\n"
    )


def test_comments_are_told_from_text() -> None:
    text = "a: 'x # y' # one\nb: [1, #two\n 2]\nc: |  # three\n  # text\n#four\nd: e#f\n"
    assert comment_lines(text) == ["# one", "#two", "#four"]


def test_what_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ConfigError):
        format_text("a: [", "f.yaml")


lines = st.sampled_from(
    [line for text in (UNTIDY, FLEET, ACME) for line in text.splitlines()]
    + [
        "",
        "  # note",
        "# top",
        "      # deep",
        "  ",
        "x-mine: 1",
        "- a",
        "    x: 'y' #c",
        "  &a b: *a",
    ]
)


@example([(3, "  &a b: *a"), (13, "  &a b: *a")], FLEET)
@given(
    st.lists(st.tuples(st.integers(0, 40), lines), max_size=12),
    st.sampled_from([UNTIDY, FLEET, ACME]),
)
def test_values_and_comments_survive_and_twice_is_once(
    more: list[tuple[int, str]], text: str
) -> None:
    kept = text.splitlines()
    for position, line in more:
        kept.insert(position, line)
    messy = "\n".join(kept)
    try:
        value = parse(messy, "f.yaml").value
    except ConfigError:
        return
    done = format_text(messy, "f.yaml")
    assert parse(done, "f.yaml").value == value
    if done != messy:  # left as it is: such as an anchor that is given twice
        assert sorted(comment_lines(done)) == sorted(comment_lines(messy))
    assert format_text(done, "f.yaml") == done
