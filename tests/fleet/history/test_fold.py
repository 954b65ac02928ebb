"""What the ledger's entries amount to."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.codec import plain, resource_of_plain
from fleet.history import CopyDamaged, found_damage, marked_unsure
from fleet.history.events import Entry, event_of
from fleet.history.fold import fold_entries, settled
from fleet.history.values import History, RolloutStage
from fleet.resources import Key, LoadedAdapter, Resource, Server, ServerFlags, State
from fleet.steps import LoadAdapter, Operation, SetRoute, StartServer, StopServer, UnloadAdapter
from fleet.traffic import ShadowPolicy, TrafficPolicy
from tests.fleet.planning.builders import digest_of, loaded, route, state

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD, NEW = "acme-support-tiny-v1.0.0", "acme-support-tiny-v1.1.0"
FLAGS = ServerFlags("models/base/tiny", "tiny", 16, 16, 32, extra=(("enforce-eager", ""),))
SERVER = Server("a", "tiny", "laptop", ("cpu0",), 8100, FLAGS.digest, FLAGS)
HELD = loaded(OLD, "a")


class Tape:
    """Entries, one an hour."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, kind: str, **data: Any) -> "Tape":
        seq = len(self.entries) + 1
        time = NOON + (seq - 1) * HOUR
        self.entries.append(
            Entry(seq, time, event_of(kind, data), "run", "anna", 1, "", f"hash{seq}")
        )
        return self

    def began(self, step: str, operation: Operation) -> "Tape":
        address = step.partition(" ")[2]
        return self.add("step_started", step=step, address=address, operation=plain(operation))

    def ended(self, step: str, how: str = "done", **more: Any) -> "Tape":
        address = step.partition(" ")[2]
        return self.add("step_finished", step=step, address=address, how=how, **more)

    def did(self, step: str, operation: Operation, **more: Any) -> "Tape":
        return self.began(step, operation).ended(step, **more)

    def routed(self, **shares: int) -> "Tape":
        found = [(f"acme-support-tiny-{v.replace('_', '.')}", p, "a") for v, p in shares.items()]
        return self.did("set route/acme-support", SetRoute(route("acme-support", *found)))

    def history(self) -> History:
        return fold_entries(self.entries)


def fell(past: History) -> dict[str, dict[str, str]]:
    """Return the digests of the blocks of the kind `rolled back`."""
    return {
        alias: {name: block.digest for name, block in blocks.items()}
        for alias, blocks in past.fell.items()
    }


def test_no_entries_are_an_empty_history() -> None:
    assert fold_entries([]) == History()


def test_what_steps_made_is_established_and_owned() -> None:
    tape = Tape().did("start server/a", StartServer(SERVER), boot="boot-1")
    tape.did(f"load {HELD.address}", LoadAdapter(HELD))
    past = tape.history()
    assert past.established == {SERVER.address: SERVER, HELD.address: HELD}
    assert past.owned == {SERVER.address, HELD.address}
    assert past.boots == {"a": "boot-1"}
    server = past.established[SERVER.address]
    assert isinstance(server, Server)
    assert server.flags == FLAGS
    assert server.flags.digest == SERVER.digest


def test_a_version_with_traffic_is_due_on_its_server_while_the_server_restarts() -> None:
    tape = Tape().did("start server/a", StartServer(SERVER))
    tape.did(f"load {HELD.address}", LoadAdapter(HELD))
    idle = loaded(NEW, "a")
    tape.did(f"load {idle.address}", LoadAdapter(idle)).routed(v1_0_0=100, v1_1_0=0)
    tape.did("stop server/a", StopServer(SERVER)).did("start server/a", StartServer(SERVER))
    past = tape.history()
    assert HELD.address in past.established
    assert idle.address not in past.established


def test_what_was_unloaded_or_stopped_is_neither() -> None:
    tape = Tape().did("start server/a", StartServer(SERVER), boot="boot-1")
    tape.did(f"load {HELD.address}", LoadAdapter(HELD))
    tape.did(f"load {loaded(NEW, 'a').address}", LoadAdapter(loaded(NEW, "a")))
    tape.did(f"unload {HELD.address}", UnloadAdapter(HELD))
    assert tape.history().owned == {SERVER.address, loaded(NEW, "a").address}
    tape.did("stop server/a", StopServer(SERVER))
    past = tape.history()
    assert (past.owned, past.established, past.boots) == (frozenset(), {}, {})


def test_a_repair_that_waited_for_the_home_brings_back_nothing_that_left_meanwhile() -> None:
    tape = Tape().did("start server/a", StartServer(SERVER))
    tape.did("stop server/a", StopServer(SERVER))
    left = tape.history()
    late = Tape().did("start server/a", StartServer(SERVER), boot="boot-2").entries
    waited = {"time": NOON.isoformat(), "by": "bert", "run": "other"}
    queued = [replace(its, event=replace(its.event, queued=waited)) for its in late]
    past = fold_entries(queued, left)
    assert (past.owned, past.established, past.boots) == (frozenset(), {}, {})
    assert not past.unfinished


def test_a_server_that_is_started_again_still_had_its_adapters() -> None:
    tape = Tape().did("start server/a", StartServer(SERVER), boot="boot-1")
    tape.did(f"load {HELD.address}", LoadAdapter(HELD))
    tape.did("start server/a", StartServer(SERVER), boot="boot-2")
    assert HELD.address in tape.history().established
    assert tape.history().boots == {"a": "boot-2"}


def test_stages_begin_when_the_share_changes_and_not_when_servers_do() -> None:
    tape = Tape().routed(v1_0_0=100).routed(v1_1_0=10, v1_0_0=90)
    entered = NOON + 3 * HOUR
    assert tape.history().stages == {"acme-support": RolloutStage(NEW, 10, entered)}
    again = route("acme-support", (NEW, 10, "a b"), (OLD, 90, "a b"))
    tape.did("set route/acme-support", SetRoute(again))
    assert tape.history().stages["acme-support"].entered == entered
    tape.routed(v1_1_0=50, v1_0_0=50)
    assert tape.history().stages["acme-support"] == RolloutStage(NEW, 50, NOON + 7 * HOUR)


def test_a_replaced_version_is_cut_over_when_its_share_ends_and_serves_again_when_it_returns() -> (
    None
):
    tape = Tape().routed(v1_1_0=10, v1_0_0=90).routed(v1_1_0=100, v1_0_0=0)
    assert tape.history().cutovers == {OLD: NOON + 3 * HOUR}
    tape.routed(v1_1_0=100, v1_0_0=0)
    assert tape.history().cutovers == {OLD: NOON + 3 * HOUR}
    tape.routed(v1_1_0=0, v1_0_0=100)
    assert tape.history().cutovers == {NEW: NOON + 7 * HOUR}
    tape.routed(v1_0_0=100)
    assert tape.history().cutovers == {}


def test_only_what_had_all_traffic_or_was_there_before_has_proved_itself() -> None:
    found = plain(route("acme-support", (NEW, 10, "a"), (OLD, 90, "a")))
    adopted = Tape().add("adopted", address="route/acme-support", resource=found)
    assert adopted.history().answered_all == {OLD}
    assert adopted.routed(v2_0_0=10, v1_0_0=90).history().answered_all == {OLD}
    assert adopted.routed(v1_1_0=100).history().answered_all == {OLD, NEW}


def test_a_rollback_holds_the_version_and_establishes_the_flip() -> None:
    tape = Tape().routed(v1_1_0=10, v1_0_0=90)
    tape.add("rolled_back", alias="acme-support", adapter=NEW, to=OLD, reason="wrong")
    past = tape.history()
    hold = past.holds["acme-support"][NEW]
    assert (hold.at, hold.by, hold.reason) == (NOON + 2 * HOUR, "anna", "wrong")
    shown = past.established[route("acme-support").address]
    assert shown == route("acme-support", (NEW, 0, "a"), (OLD, 100, "a"))
    assert past.stages["acme-support"] == RolloutStage(NEW, 0, NOON + 2 * HOUR)
    assert fell(past) == {"acme-support": {NEW: ""}}
    assert past.cutovers == {NEW: NOON + 2 * HOUR}


def test_a_hold_remembers_which_bytes_were_loaded() -> None:
    tape = Tape().routed(v1_1_0=10, v1_0_0=90)
    there = LoadedAdapter(NEW, "a", "d" * 64)
    tape.add("adopted", address=there.address, resource=plain(there))
    tape.add("rolled_back", alias="acme-support", adapter=NEW, to=OLD)
    assert tape.history().holds["acme-support"][NEW].digest == "d" * 64
    unknown = Tape().routed(v1_1_0=10, v1_0_0=90)
    unknown.add("rolled_back", alias="acme-support", adapter=NEW, to=OLD)
    assert unknown.history().holds["acme-support"][NEW].digest == ""


def test_a_version_that_only_got_copies_was_not_cut_over() -> None:
    tape = Tape()
    usual = route("acme-support", (OLD, 100, "a"), (NEW, 0, "a"))
    shadowed = replace(usual, policy=TrafficPolicy(shadow=ShadowPolicy(NEW, ("a",), 100, 1)))
    tape.did("set route/acme-support", SetRoute(shadowed))
    assert tape.history().cutovers == {}
    assert tape.history().stages["acme-support"].adapter == OLD
    tape.did("set route/acme-support", SetRoute(usual))
    assert list(tape.history().cutovers) == [NEW]


def test_going_back_to_a_held_version_by_hand_lifts_its_hold() -> None:
    tape = Tape().routed(v1_1_0=10, v1_0_0=90)
    tape.add("rolled_back", alias="acme-support", adapter=NEW, to=OLD)
    tape.add("rolled_back", alias="acme-support", to=NEW)
    assert tape.history().holds == {}


@pytest.mark.parametrize(("adapter", "left"), [(NEW, {}), (None, {}), (OLD, {NEW})])
def test_a_release_lifts_the_hold_it_names(adapter: str | None, left: Mapping[str, Any]) -> None:
    tape = Tape().routed(v1_1_0=10, v1_0_0=90)
    tape.add("rolled_back", alias="acme-support", adapter=NEW, to=OLD)
    tape.add("released", alias="acme-support", adapter=adapter, route=None)
    assert set(tape.history().holds.get("acme-support", {})) == set(left)


def test_a_release_starts_the_stage_of_the_live_route() -> None:
    tape = Tape().routed(v1_1_0=10, v1_0_0=90)
    by_hand = route("acme-support", (NEW, 30, "a"), (OLD, 70, "a"))
    tape.add("released", alias="acme-support", adapter=None, route=plain(by_hand))
    assert tape.history().stages["acme-support"] == RolloutStage(NEW, 30, NOON + 2 * HOUR)
    assert tape.history().established[by_hand.address] == by_hand


def test_adopting_twice_does_not_begin_the_stage_anew() -> None:
    live = route("acme-support", (NEW, 10, "a"), (OLD, 90, "a"))
    tape = Tape().add("adopted", address=live.address, resource=plain(live), boot="")
    tape.add("adopted", address=live.address, resource=plain(live), boot="")
    assert tape.history().stages["acme-support"] == RolloutStage(NEW, 10, NOON)


def test_what_nothing_asks_for_any_more_is_forgotten_when_an_apply_ends() -> None:
    tape = Tape().did(f"load {HELD.address}", LoadAdapter(HELD))
    tape.add("apply_finished", boots={"a": "boot-3"}, gone=[HELD.address])
    past = tape.history()
    assert (past.owned, past.established, past.boots) == (frozenset(), {}, {"a": "boot-3"})


@pytest.mark.parametrize(
    ("kind", "data", "open_still"),
    [
        ("step_failed", {"unsure": False}, False),
        ("step_failed", {"unsure": True}, True),
        ("step_finished", {"how": "done"}, False),
        ("note", {"text": "undone"}, False),
    ],
)
def test_a_step_is_unfinished_until_its_end_is_known(
    kind: str, data: Mapping[str, Any], *, open_still: bool
) -> None:
    step = f"load {HELD.address}"
    tape = Tape().began(step, LoadAdapter(HELD)).add(kind, step=step, address=HELD.address, **data)
    assert (step in tape.history().unfinished) is open_still
    assert HELD.address in tape.history().owned


def test_unfinished_steps_are_settled_by_what_is_live() -> None:
    after = route("acme-support", (NEW, 10, "a"), (OLD, 90, "a"))
    tape = Tape().routed(v1_0_0=100).began("set route/acme-support", SetRoute(after))
    tape.began(f"load {HELD.address}", LoadAdapter(HELD))
    done = settled(tape.history(), state(after))
    assert done.unfinished == {}
    assert done.stages["acme-support"] == RolloutStage(NEW, 10, NOON + 2 * HOUR)
    assert HELD.address not in done.established
    undone = settled(tape.history(), state(route("acme-support", (OLD, 100, "a"))))
    assert undone.stages["acme-support"] == RolloutStage(OLD, 100, NOON + HOUR)
    unknown = replace(state(), unknown_servers={"a": "silent"}, routes_unknown="down")
    assert settled(tape.history(), unknown) == tape.history()


def test_entries_of_later_versions_are_passed_over() -> None:
    (entry,) = Tape().add("something_new", x=1).entries
    assert fold_entries([entry]) == History(seq=1, as_of=entry.time)


names = st.sampled_from(["acme-support-tiny-v1.0.0", "birch-faq-mini-v2.1.0"])
resources: st.SearchStrategy[Resource] = st.one_of(
    st.builds(LoadedAdapter, names, st.just("a"), st.none() | st.just("f" * 64), st.text()),
    st.builds(Key, st.just("acme"), st.just("prod"), st.text(), st.none() | st.text()),
    st.builds(
        lambda percent: route("acme-support", (NEW, percent, "a b"), (OLD, 100 - percent, "c")),
        st.integers(0, 100),
    ),
    st.builds(
        lambda flags, devices: Server("a", "tiny", "h", devices, 1, flags and flags.digest, flags),
        st.none() | st.just(FLAGS),
        st.tuples(st.text()),
    ),
)


@given(resources)
def test_a_resource_reads_back_from_its_plain_form(each: Resource) -> None:
    again = resource_of_plain(plain(each))
    assert again == each
    assert repr(again) == repr(each)


@pytest.mark.parametrize("document", [{}, {"kind": "pod"}, {"kind": "server"}, {"kind": "route"}])
def test_what_is_no_resource_is_refused(document: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="resource"):
        resource_of_plain(document)


DIGEST = digest_of(OLD)
COPY = f"/store/{DIGEST}"


def held(server: str = "a", path: str = COPY) -> LoadedAdapter:
    return LoadedAdapter(OLD, server, DIGEST, path)


def unsure(live: State, damage: dict[str, dict[str, str]]) -> list[str]:
    found = marked_unsure(live, damage).adapters().values()
    return [adapter.server for adapter in found if adapter.unsure]


@pytest.mark.parametrize(
    ("then", "now", "marked"),
    [("1", "1", ["a"]), ("1", "2", []), ("", "2", ["a"]), ("1", "", ["a"]), ("", "", ["a"])],
)
def test_another_boot_has_not_read_the_copy_and_an_unknown_boot_may_have(
    then: str, now: str, marked: list[str]
) -> None:
    live = state(held(), held("b"), boots={"a": now} if now else {})
    assert unsure(live, {COPY: {"a": then}}) == marked


def test_a_version_at_a_fresh_path_is_sure() -> None:
    live = state(held(path=f"{COPY}-2"), boots={"a": "1"})
    assert unsure(live, {COPY: {"a": "1"}}) == []
    assert marked_unsure(live, {COPY: {"a": "1"}}) is live


def test_damage_is_recorded_once_with_servers_that_list_the_copy_or_do_not_answer() -> None:
    past = History(
        established={held("c").address: replace(held("c"), path="")}, boots={"c": "3", "d": "4"}
    )
    live = state(
        held(), held("b"), boots={"a": "1", "b": "2", "d": "4"}, unknown_servers={"c": "no answer"}
    )
    (event,) = found_damage({COPY: "is gone"}, past, live)
    assert event == CopyDamaged(DIGEST, COPY, "is gone", {"a": "1", "b": "2", "c": "3"})
    known = replace(past, damage={COPY: {"a": "1", "b": "2", "c": "3"}})
    assert found_damage({COPY: "is gone"}, known, live) == ()
    again = replace(known, damage={COPY: {"a": "0", "b": "2", "c": "3"}})
    assert found_damage({COPY: "is gone"}, again, live) == (event,)


def test_the_damage_of_several_entries_adds_up_and_the_latest_boot_counts() -> None:
    tape = Tape()
    tape.add("copy_damaged", digest=DIGEST, path=COPY, fault="is gone", boots={"a": "1", "b": "1"})
    tape.add("copy_damaged", digest=DIGEST, path=COPY, fault="is gone", boots={"a": "2"})
    assert fold_entries(tape.entries).damage == {COPY: {"a": "2", "b": "1"}}


def test_only_an_unsure_adapter_says_so_in_plain_form() -> None:
    assert "unsure" not in plain(held())
    marked = replace(held(), unsure=True)
    assert resource_of_plain(plain(marked)) == marked != held()
