"""The reference is what the code says: every field, command and metric has its entry, and no other.

`UPDATE_REFERENCE=1 .venv/bin/python -m pytest tests/reference` writes the pages.
"""

from tests.reference import commands, fields
from tests.reference.page import held


def test_every_field_has_a_description_a_unit_and_an_example_that_parses() -> None:
    missing = {
        f"{model.__name__}.{row[0]}": word
        for model in fields.sections()
        for row in fields.rows(model)
        for word, is_missing in (
            ("description", not row[5]),
            ("write `Unit: requests.` into its description", row[3] == "?"),
            ("declare an example in tests/attacks/rich.yaml", row[4] == "?"),
        )
        if is_missing
    }
    assert missing == {}


def test_the_page_of_the_fields_is_what_the_models_say() -> None:
    held("fields", fields.page())


def test_the_page_of_the_commands_is_what_their_help_says() -> None:
    held("commands", commands.page())
