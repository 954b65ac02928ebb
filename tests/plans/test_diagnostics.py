"""Diagnostics as one reads them."""

import pytest

from fleet.errors import problem
from plans.diagnostics import render_text


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
