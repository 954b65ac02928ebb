"""Diagnostics as one reads them."""

import pytest

from fleet.errors import Diagnostic, Position, problem
from plans.diagnostics import LISTED, SHOWN, render_text


@pytest.mark.parametrize(
    ("hint", "command", "end"),
    [
        ("make it again", "fleetctl plan", "It is cut off. Make it again:\n\n    fleetctl plan\n"),
        ("make it again", "", "It is cut off. Make it again.\n"),
        ("Is the port taken?", "fleetctl plan", "Is the port taken?\n\n    fleetctl plan\n"),
        ("", "fleetctl plan", "It is cut off.\n\n    fleetctl plan\n"),
    ],
)
def test_a_hint_is_a_sentence_and_leads_over_to_its_command(
    hint: str, command: str, end: str
) -> None:
    text = render_text([problem("FC1", "Damaged", "It is cut off.", hint=hint, command=command)])
    assert text.endswith(end)


def unknown(line: int, base: str = "tinny", hint: str = "Did you mean `tiny`?") -> Diagnostic:
    detail = f"No base is called `{base}`."
    place = Position("clients/acme.yaml", line, 15)
    return Diagnostic("FC1202", "Unknown base", detail, place, hint=hint)


def test_a_fault_in_many_places_is_told_once_with_its_places() -> None:
    text = render_text([unknown(line) for line in (9, 21, 110)])
    assert text == (
        "Error: Unknown base [FC1202]\n  at clients/acme.yaml:9:15\n\n"
        "No base is called `tinny`. Did you mean `tiny`?\n\n"
        "The same in 2 more places:\n  clients/acme.yaml:21:15\n  clients/acme.yaml:110:15\n"
    )


def test_other_words_of_a_fault_stand_beside_their_places() -> None:
    others = [unknown(2, "tinny"), unknown(30, "titi"), unknown(4, "long " * 40)]
    lines = render_text([unknown(1), *others]).splitlines()[-3:]
    assert lines[:2] == [
        "  clients/acme.yaml:2:15",
        "  clients/acme.yaml:30:15  No base is called `titi`.",
    ]
    assert lines[2].endswith("long …")
    assert len(lines[2]) < 110


def test_faults_with_other_remedies_and_few_faults_stand_alone() -> None:
    found = [unknown(1), unknown(2), *(unknown(line, hint=f"Write {line}.") for line in (3, 4, 5))]
    assert render_text(found).count("Error: Unknown base") == len(found)


def test_a_list_of_places_ends_and_says_how_many_are_left() -> None:
    text = render_text([unknown(line) for line in range(1, 500)])
    assert text.count("clients/acme.yaml") == LISTED + 1
    assert text.endswith(f"\n  … and {499 - 1 - LISTED} more\n")
    apart = [unknown(line, hint=f"Write {line}.") for line in range(SHOWN + 3)]
    assert "… and 3 more. `fleetctl validate --format json` lists all.\n" in render_text(apart)
