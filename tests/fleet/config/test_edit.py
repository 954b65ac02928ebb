"""An entry is added, and every other byte of the file stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.config.edit import add_entry, set_value
from fleet.config.files.yaml import parse

PATH = ("clients", "acme", "adapters")
ENTRY = "faq:\n  base: tiny\n  # a note\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "clients:\n  acme:\n    adapters:\n      support:\n        base: tiny\n",
            (
                "clients:\n  acme:\n    adapters:\n      support:\n        base: tiny\n"
                "      faq:\n        base: tiny\n        # a note\n"
            ),
        ),
        (
            "clients:\n  acme:\n    adapters: {}\n",
            "clients:\n  acme:\n    adapters:\n      faq:\n        base: tiny\n        # a note\n",
        ),
        (
            "clients:\n  acme:\n    adapters:  # none yet\n  birch: {}\n",
            (
                "clients:\n  acme:\n    adapters:  # none yet\n"
                "      faq:\n        base: tiny\n        # a note\n  birch: {}\n"
            ),
        ),
        (
            "clients:\n  acme:\n    tier: premium\n  birch: {}\n",
            (
                "clients:\n  acme:\n    tier: premium\n    adapters:\n      faq:\n"
                "        base: tiny\n        # a note\n  birch: {}\n"
            ),
        ),
        (
            "clients:\n  acme: {}\n",
            "clients:\n  acme:\n    adapters:\n      faq:\n        base: tiny\n        # a note\n",
        ),
        (
            "clients:\n    acme:\n        adapters:\n            support: {base: tiny}",
            (
                "clients:\n    acme:\n        adapters:\n            support: {base: tiny}\n"
                "            faq:\n              base: tiny\n              # a note\n"
            ),
        ),
        (
            (
                "clients:\n  acme:\n    adapters:\n      support:\n        smoke:\n          - |\n"
                "            two\n            lines\n\n# the end\n"
            ),
            (
                "clients:\n  acme:\n    adapters:\n      support:\n        smoke:\n          - |\n"
                "            two\n            lines\n\n      faq:\n        base: tiny\n"
                "        # a note\n# the end\n"
            ),
        ),
        (
            (
                "clients:\n  acme:\n    adapters:\n      support:\n        base: tiny\n"
                "        # golden: later\n\n  # about birch\n  birch: {}\n"
            ),
            (
                "clients:\n  acme:\n    adapters:\n      support:\n        base: tiny\n"
                "        # golden: later\n      faq:\n        base: tiny\n        # a note\n"
                "\n  # about birch\n  birch: {}\n"
            ),
        ),
        (
            "clients:\n  acme:\n    adapters:\n      support: {base: tiny,\n        pin: x}\n",
            (
                "clients:\n  acme:\n    adapters:\n      support: {base: tiny,\n        pin: x}\n"
                "      faq:\n        base: tiny\n        # a note\n"
            ),
        ),
        (
            "clients:\r\n  acme:\r\n    adapters: {}\r\nfleet: x\r\n",
            (
                "clients:\r\n  acme:\r\n    adapters:\r\n      faq:\r\n        base: tiny\r\n"
                "        # a note\r\nfleet: x\r\n"
            ),
        ),
    ],
)
def test_an_entry_is_added_where_its_map_ends(before: str, after: str) -> None:
    assert add_entry(before, "f.yaml", PATH, ENTRY) == after


@pytest.mark.parametrize(
    "text",
    [
        "clients:\n  acme: {adapters: {support: {base: tiny}}}\n",
        "clients: {acme: {tier: premium}}\n",
        "clients:\n  acme:\n    adapters: {support: {base: tiny}}\n",
        "clients:\n  acme:\n    adapters: [a]\n",
    ],
)
def test_a_map_in_one_line_has_no_place_for_an_entry_of_several(text: str) -> None:
    assert add_entry(text, "f.yaml", PATH, ENTRY) is None


tasks = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4)
comments = st.sampled_from(["", "  # why", "\n\n", "\n      # below\n", "\n        # inside\n"])


@given(tasks=tasks, noise=st.lists(comments, min_size=4, max_size=4), tail=comments)
def test_what_stood_there_stays_line_by_line(tasks: list[str], noise: list[str], tail: str) -> None:
    entries = "".join(
        f"      {task}:\n        base: tiny{more}\n"
        for task, more in zip(tasks, noise, strict=False)
    )
    text = f"clients:\n  acme:\n    adapters:\n{entries}{tail}\n  birch:\n    tier: x\n"
    made = add_entry(text, "f.yaml", PATH, ENTRY)
    assert made is not None
    assert list(parse(made, "f.yaml").value["clients"]["acme"]["adapters"]) == [*tasks, "faq"]
    added = ["      faq:", "        base: tiny", "        # a note"]
    lines = made.splitlines()
    at = lines.index("      faq:")
    assert lines[at : at + 3] == added
    assert lines[:at] + lines[at + 3 :] == text.splitlines()


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ('a:\n  v: "1.0.0"  # why\n  w: 2\n', ("a", "v"), 'a:\n  v: "9"  # why\n  w: 2\n'),
        ("a: {v: '1', w: 2}\r\n", ("a", "v"), 'a: {v: "9", w: 2}\r\n'),
        ("v: 1\n", ("v",), 'v: "9"\n'),
        ("v: |\n  1\n", ("v",), None),
        ("v: [1]\n", ("v",), None),
        ("a: 1\n", ("v",), None),
        ("a: 1\n", ("a", "v"), None),
    ],
)
def test_a_scalar_is_replaced_and_every_other_byte_stays(
    text: str, path: tuple[str, ...], expected: str | None
) -> None:
    assert set_value(text, "f.yaml", path, "9") == expected
