"""What follows a plan's apply, alias by alias."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest

from fleet.plan import Plan
from fleet.planning import make_plan, parse_criteria, select
from plans.documents import live_file
from plans.render.prospects import prospect_lines
from runtime.project.load import load_project
from tests.stories.test_stories import _HISTORY, STORIES, given, plan_of

FOLDER = STORIES[0].parent
GATED = FOLDER / "new_version_with_gates"
DUNE = """
clients:
  dune: {tier: standard, adapters: {extract: {base: llama3_8b, version: "3.1.0"}}}
"""
LATENCY = {"gates: [accuracy, latency]": "gates: [latency]"}


def planned(story: Path, edits: Mapping[str, str], client: str = "") -> Plan:
    """Return the plan of a story whose fleet.yaml reads otherwise, and dune's file too."""
    text = (story / "fleet.yaml").read_text("utf-8")
    for before, after in edits.items():
        assert before in text
        text = text.replace(before, after)
    edited = {"fleet.yaml": text} | ({"clients/dune.yaml": client} if client else {})
    return make_plan(
        load_project(story, None, {}, edited=edited).fleet,
        live_file.load(given(story, "live.json")),
        _HISTORY.validate_json(given(story, "history.json")),
        datetime.fromisoformat(given(story, "now.txt").strip()),
    )


def line(plan: Plan, alias: str) -> str:
    (found,) = [text for text in prospect_lines(plan) if text.startswith(alias)]
    return found


def test_chances_are_unknown_where_traffic_decides_and_no_demand_is_declared() -> None:
    assert "chances of its gates unknown" in line(planned(GATED, LATENCY, DUNE), "dune-extract")


def test_hours_in_which_no_share_rises_are_told() -> None:
    closed = 'gates: [latency], no_promote: ["Fri 16:00-Mon 08:00"]'
    plan = planned(GATED, {"gates: [accuracy, latency]": closed})
    assert "; not in Fri 16:00-Mon 08:00; " in line(plan, "acme-support")


def test_the_last_stage_has_nothing_ahead() -> None:
    assert plan_of(FOLDER / "stage_cut_over").prospects == ()


def test_what_is_declared_for_an_adapter_hides_a_change_of_its_tier() -> None:
    tier = {"standard: {retrain_every: 90d}": "standard: {retrain_every: 90d, residency: cached}"}
    story = FOLDER / "tier_changed"
    assert "residency default -> cached" in line(planned(story, tier), "dune-extract")
    own = DUNE.replace('"3.1.0"', '"3.0.1", residency: pinned')
    assert line(planned(story, tier, own), "dune-extract") == (
        "dune-extract: residency default -> pinned"
    )


@pytest.mark.parametrize(
    ("story", "criterion", "aliases"),
    [
        ("tier_changed", "client=acme", []),
        ("tier_changed", "client=birch", ["birch-faq"]),
        ("new_version_with_gates", "client=acme", ["acme-support"]),
        ("new_version_with_gates", "client=birch", []),
    ],
)
def test_a_part_of_a_plan_tells_what_follows_for_its_clients(
    story: str, criterion: str, aliases: list[str]
) -> None:
    part = select(plan_of(FOLDER / story), parse_criteria([criterion]))
    assert [prospect.alias for prospect in part.prospects] == aliases
    everybody = {"acme", "birch", "dune"}
    assert {*part.untouched_clients} == everybody - {prospect.client for prospect in part.prospects}
