"""Which versions may answer other bytes, by the damage that the ledger knows."""

from dataclasses import replace

import pytest

from fleet.decoding import resource_of_plain
from fleet.encoding import plain
from fleet.history import CopyDamaged, fold_entries, found_damage, marked_unsure
from fleet.history.values import History
from fleet.resources import LoadedAdapter, State
from tests.fleet.history.test_fold import OLD, Tape
from tests.fleet.planning.builders import digest_of, state

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
