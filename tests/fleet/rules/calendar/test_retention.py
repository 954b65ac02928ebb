"""What may be deleted: only what nobody uses, will load, or could go back to."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleet.history.values import Block, BlockKind, History
from fleet.resources import LoadedAdapter, State
from fleet.rules.retention import retained
from tests.fleet.planning.builders import (
    DAY,
    NOON,
    adapter,
    digest_of,
    fleet,
    history,
    loaded,
    route,
    state,
)

DECLARED = "acme-support-tiny-v1.5.0"
VERSIONS = [f"acme-support-tiny-v1.{minor}.0" for minor in range(7)]
GONE = "birch-units-tiny-v1.0.0"
FLEET = fleet(adapter(DECLARED), known=[*VERSIONS, GONE])


def unneeded(live: State | None = None, past: History | None = None, **more: Any) -> set[str]:
    """Return what may go: minor versions, and copies as `c` and their minor version."""
    given = {"copies": [digest_of(each) for each in VERSIONS], "busy": {}} | more
    found = retained(FLEET, live or state(), past or history(), NOON, **given)
    copies = {digest_of(name): f"c{minor}" for minor, name in enumerate(VERSIONS)}
    gone = {each.name[-3] for each in found[0] if not each.needed}
    return gone | {copies[each.name] for each in found[1] if not each.needed}


def test_the_declared_version_newer_ones_and_three_earlier_ones_stay() -> None:
    found = retained(FLEET, state(), history(), NOON, copies=(), busy={})
    assert {each.name[-3:]: each.why for each in found[0] if each.name != GONE} == {
        "0.0": "older than the earlier versions that are kept",
        "1.0": "older than the earlier versions that are kept",
        "2.0": "one of 3 earlier versions",
        "3.0": "one of 3 earlier versions",
        "4.0": "one of 3 earlier versions",
        "5.0": "it is declared",
        "6.0": "not older than 1.5.0",
    }
    assert unneeded(copies=()) == {"0", "1"}
    assert next(each.why for each in found[0] if each.name == GONE).endswith("not declared")


def test_a_copy_that_nobody_lists_goes_unless_it_is_the_declared_one_s() -> None:
    assert unneeded() == {"0", "1", "c0", "c1", "c2", "c3", "c4", "c6"}


def test_of_the_copies_of_a_digest_the_newest_counts_and_those_that_servers_list() -> None:
    digest = digest_of(DECLARED)
    copies = [digest, *(f"{digest}-{number}" for number in (2, 9, 10))]
    live = state(LoadedAdapter(DECLARED, "s1", digest, f"/store/{digest}-2"))
    found = retained(FLEET, live, history(), NOON, copies=copies, busy={})[1]
    assert {copy.name.removeprefix(digest): copy.needed for copy in found} == {
        "": False,
        "-2": True,
        "-9": False,
        "-10": True,
    }
    (adapter_there,) = live.adapters().values()
    restarted = state(resolvable={adapter_there.address: adapter_there})
    again = retained(FLEET, restarted, history(), NOON, copies=copies, busy={})[1]
    assert [copy.needed for copy in again] == [copy.needed for copy in found]
    silent = state(unknown_servers={"s1": "no answer"})
    found = retained(FLEET, silent, history(), NOON, copies=copies, busy={})[1]
    assert all(copy.needed for copy in found)


USED = {
    "listed": (state(loaded(VERSIONS[0], "s1")), history(), {}),
    "loaded when asked": (
        state(resolvable={loaded(VERSIONS[0], "s1").address: loaded(VERSIONS[0], "s1")}),
        history(),
        {},
    ),
    "routed at 0 percent": (
        state(route("acme-support", (DECLARED, 100, "s1"), (VERSIONS[0], 0, "s1"))),
        history(),
        {},
    ),
    "in flight": (state(), history(), {VERSIONS[0]: 1}),
    "to be loaded again": (
        state(),
        replace(
            history(),
            established={loaded(VERSIONS[0], "s1").address: loaded(VERSIONS[0], "s1")},
        ),
        {},
    ),
}


@pytest.mark.parametrize("case", USED)
def test_what_is_used_in_any_way_stays(case: str) -> None:
    live, past, busy = USED[case]
    assert "0" not in unneeded(live, past, busy=busy)
    assert "1" in unneeded(live, past, busy=busy)


def test_a_version_that_a_server_read_from_the_library_itself_stays() -> None:
    other = LoadedAdapter("rogue", "s1", None, "/project/models/adapters/acme/support-v1.0.0")
    copy = LoadedAdapter("rogue", "s1", None, f"/elsewhere/{digest_of(VERSIONS[1])}/")
    assert unneeded(state(copy)) == {"0", "c0", "c2", "c3", "c4", "c6"}
    assert "0" not in unneeded(state(other))


@pytest.mark.parametrize(
    ("ago", "goes"), [(7 * DAY - timedelta(seconds=1), {"1"}), (7 * DAY, {"0", "1"})]
)
def test_a_replaced_version_stays_for_as_long_as_its_rollout_retains_it(
    ago: timedelta, goes: set[str]
) -> None:
    past = replace(history(cutovers={VERSIONS[0]: NOON - ago}), answered_all=frozenset())
    assert unneeded(past=past, copies=()) == goes


def test_a_version_that_was_rolled_back_does_not_count_as_one_to_go_back_to() -> None:
    past = history(holds=[Block(BlockKind.HELD, VERSIONS[4], NOON, "eve", "bad")])
    assert unneeded(past=past, copies=()) == {"0"}


def test_versions_that_never_had_all_traffic_do_not_push_out_the_one_that_had() -> None:
    past = replace(history(), answered_all=frozenset({VERSIONS[0], DECLARED}))
    assert unneeded(past=past, copies=()) == set()
    found = retained(FLEET, state(), past, NOON, copies=(), busy={})
    why = {each.name: each.why for each in found[0]}
    assert why[VERSIONS[0]] == "one of 3 earlier versions"
    assert why[VERSIONS[4]] == "not 3 newer ones have proven themselves"
    more = replace(past, answered_all=frozenset({VERSIONS[each] for each in (0, 2, 3, 4)}))
    assert unneeded(past=more, copies=()) == {"0", "1"}


@pytest.mark.parametrize("asked", [0, 1, 3])
def test_three_earlier_versions_stay_whatever_is_asked_for(asked: int) -> None:
    found = retained(replace(FLEET, keep_versions=asked), state(), history(), NOON, copies=(),
                     busy={})[0]  # fmt: skip
    kept = {each.name[-3] for each in found if each.why == "one of 3 earlier versions"}
    assert kept == {"2", "3", "4"}


def test_what_answers_while_another_is_rolled_out_has_three_before_it() -> None:
    live = state(route("acme-support", (DECLARED, 10, "s1"), (VERSIONS[4], 90, "s1")))
    proven = replace(history(), answered_all=frozenset(VERSIONS[:5]))
    assert unneeded(live, proven, copies=()) == {"0"}
    done = state(route("acme-support", (DECLARED, 100, "s1"), (VERSIONS[4], 0, "s1")))
    assert unneeded(done, proven, copies=()) == {"0", "1"}


def test_the_bytes_of_what_was_taken_out_are_no_better_under_another_name() -> None:
    bad = Block(BlockKind.HELD, VERSIONS[4], NOON, "eve", "bad", digest=digest_of(VERSIONS[2]))
    past = history(holds=[bad])  # the bytes of 1.4.0 are others since, and 1.2.0 has the old ones
    assert unneeded(past=past, copies=()) == {"0"}
    why = {each.name: each.why for each in retained(FLEET, state(), past, NOON, copies=(),
                                                    busy={})[0]}  # fmt: skip
    assert why[VERSIONS[4]] == "one of 3 earlier versions"
    assert why[VERSIONS[2]] == "not 3 newer ones have proven themselves"


@pytest.mark.parametrize("unknown", [{"unknown_servers": {"s1": "?"}}, {"routes_unknown": "?"}])
def test_nothing_goes_while_anything_is_unknown(unknown: dict[str, Any]) -> None:
    assert unneeded(state(**unknown)) == set()
