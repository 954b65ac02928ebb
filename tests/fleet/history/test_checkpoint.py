"""A history in plain form is the history, and folding goes on from it."""

import json
from dataclasses import replace
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings

from fleet.codec import plain
from fleet.history import Entry, History, Noted, fold_entries, history_document, history_of
from fleet.resources import State
from tests.bench.ledgers import life
from tests.drawn import drawn, examples
from tests.fleet.history.test_fold import NOON
from tests.fleet.planning.builders import loaded, route
from tests.fleet.rollouts.rollout_world import World, happen, stories


def text(history: History) -> str:
    """Return a history as text in which the order of its parts counts."""
    return json.dumps(history_document(history))


def require_equal_at_every_cut(entries: list[Entry], step: int = 1) -> None:
    """Fold on from every beginning of the entries, through JSON: the end is always the same."""
    whole = text(fold_entries(entries))
    for cut in range(0, len(entries) + 1, step):
        kept = history_of(json.loads(text(fold_entries(entries[:cut]))))
        assert text(fold_entries(entries[cut:], kept)) == whole


@drawn
@given(story=stories)
@settings(max_examples=examples(25, 100))
def test_a_story_of_rollouts_is_folded_on_from_every_entry(story: list[tuple[str, Any]]) -> None:
    world = World()
    for kind, what in story:
        happen(world, kind, what)
        world.tick()
    require_equal_at_every_cut(world.entries)


def test_a_life_of_all_kinds_of_entries_is_folded_on_from_every_entry() -> None:
    names = [f"acme-support{number}" for number in range(4)]
    adapters = [loaded(f"{name}-tiny-v1.0.0", "a") for name in names]
    routes = [route(name, (f"{name}-tiny-v1.0.0", 100, "a")) for name in names]
    live = State(
        {item.address: item for item in adapters} | {item.address: item for item in routes}
    )
    events = islice(life(live, Random(7)), 1200)  # noqa: S311 (not for secrets)
    entries = [
        Entry(seq, NOON, event, "r", "ana", 1, "", "") for seq, event in enumerate(events, 1)
    ]
    assert len({entry.event.kind for entry in entries}) > 12
    require_equal_at_every_cut(entries, step=7)


def test_an_entry_from_the_queue_that_was_written_twice_counts_once_after_a_checkpoint() -> None:
    note = Noted(step="load adapter/x@a", entry_id="1f")
    once = Entry(1, NOON, note, "r", "ana", 1, "", "")
    kept = history_of(history_document(fold_entries([once])))
    assert kept.entry_ids == {"1f"}
    again = fold_entries([replace(once, seq=2)], kept)
    assert again.seq == 2
    assert again.entry_ids == {"1f"}


@pytest.mark.parametrize("change", [{"seq": "7"}, {"later": 1}, {"owned": 3}, {"evidence": [1]}])
def test_a_document_of_another_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="history"):
        history_of({**plain(History()), **change})
