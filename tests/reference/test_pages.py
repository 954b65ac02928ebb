"""The reference is what the code says: every field, command and metric has its entry, and no other.

`UPDATE_REFERENCE=1 .venv/bin/python -m pytest tests/reference` writes the pages.
"""

import json
import re

import pytest

from fleet.evals.golden_item import (
    JUDGE,
    KEYS,
    METRICS,
    PAIRWISE,
    USUAL_MAX_TOKENS,
    GoldenItemError,
    golden_item,
)
from fleet.evals.golden_set import DEFAULTS, read_golden_set
from fleet.evals.metrics.texts import NORMALISERS
from runtime.web.scraped import HELP
from tests.reference import commands, fields, metrics, plan
from tests.reference.page import REPOSITORY, held


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


def test_the_page_of_the_metrics_is_what_gateway_and_dashboard_say() -> None:
    held("metrics", metrics.page())


def test_the_page_on_prometheus_has_every_metric_of_the_fleet_and_no_other() -> None:
    assert {*metrics.of_fleet()} == {*HELP}


def test_the_page_of_the_plan_is_what_its_encoder_says() -> None:
    held("plan", plan.page())


def test_every_field_of_the_plan_has_a_meaning() -> None:
    text = plan.page()
    assert [line for line in text.splitlines() if line.rstrip().endswith("|  |")] == []


def test_every_key_in_the_plans_of_the_stories_has_its_entry() -> None:
    stories = [*(REPOSITORY / "tests" / "stories").glob("*/plan.json")]
    keys = {key for story in stories for key in plan.keys_in(story.read_text("utf-8"))}
    assert len(keys) > 50
    text = plan.page()
    assert {key for key in keys if f"| `{key}` |" not in text} == set()


EVALS = (REPOSITORY / "docs" / "evals.md").read_text(encoding="utf-8")
_ROW = re.compile(r"(?m)^\| `(\w+)` \| (.+) \| (.+) \| `(.+)` \|$")
ROWS = {name: cells for name, *cells in _ROW.findall(EVALS)}
"""Type, meaning and example of the keys of golden items."""


def test_the_page_on_golden_sets_has_every_key_every_metric_and_their_options() -> None:
    assert {*ROWS} == KEYS
    rows = re.findall(r"(?m)^\| `(\w+)` \| (`[a-z`, ]+`) \| .+ \|$", EVALS)
    options = {name: set(re.findall(r"\w+", said)) for name, said in rows}
    assert options.pop(JUDGE) == {"question", PAIRWISE}
    assert options == {name: metric.options for name, metric in METRICS.items()}
    (normalisers,) = re.findall(r"(?s)`normalise` removes .+?: (.+?)\.", EVALS)
    assert set(re.findall(r"`(\w+)`", normalisers)) == {*NORMALISERS}
    (defaults,) = re.findall(r"`\{\"defaults\": .*?\}` gives (.+?) to all", EVALS)
    assert {*re.findall(r"`(\w+)`", defaults)} == DEFAULTS
    assert f"default {USUAL_MAX_TOKENS}" in ROWS["max_tokens"][1]


@pytest.mark.parametrize("key", sorted(KEYS))
def test_the_example_of_a_key_of_golden_items_is_read_and_another_type_is_not(key: str) -> None:
    asked = {} if key in ("messages", "prompt") else {"input": "Hello"}
    item = {"id": "t-1", **asked, "expected": "5"}
    assert golden_item({**item, key: json.loads(ROWS[key][2])}).id == "t-1"
    if key != "expected":
        with pytest.raises(GoldenItemError):
            golden_item({**item, key: 1.5})


def test_the_examples_of_golden_sets_are_read() -> None:
    (block, labels, *_) = re.findall(r"```json\n(.*?)```", EVALS, re.DOTALL)
    lines = re.sub(r"\n ", " ", block).encode()
    assert len(read_golden_set(lines, "golden.jsonl").items) == 2
    assert [json.loads(line)["label"] for line in labels.splitlines()] == ["yes", "no"]
