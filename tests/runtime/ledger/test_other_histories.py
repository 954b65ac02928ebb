"""A home with another history than before: of another fleet, or of an earlier time."""

from collections.abc import Callable

import pytest

from fleet.errors import FleetError
from fleet.history import ApplyStarted, Noted
from runtime.ledger.fallback import FallbackLedger
from runtime.ledger.file import FileLedger
from runtime.ledger.protocol import Ledger
from runtime.ledger.replica import LedgerReplica
from tests.runtime.ledger.test_homes import NOON, Home, home, texts

__all__ = ["home"]


def begun(fleet_id: str) -> ApplyStarted:
    return ApplyStarted("plan", "shop", fleet_id=fleet_id)


def test_a_home_of_another_fleet_of_the_name_is_neither_read_nor_written(home: Home) -> None:
    mine = FileLedger(home.folder / "mine", run="run", by="tester", clock=lambda: NOON)
    before = FallbackLedger(mine, LedgerReplica(home.folder / "kept"), [])
    before.append([begun("0123456789ab"), Noted("ours")])
    copy = LedgerReplica(home.folder / "kept").read()
    home.ledger().append([begun("ba9876543210"), Noted("theirs")])
    asked: tuple[Callable[[Ledger], object], ...] = (
        lambda ledger: ledger.read(),
        lambda ledger: ledger.history(),
        lambda ledger: ledger.append([Noted("ours again")]),
    )
    for ask in asked:
        with pytest.raises(FleetError) as refused:
            ask(home.kept())
        (told,) = refused.value.diagnostics
        assert told.code == "FC5143"
        assert "fleet `shop` (id ba9876543210)" in told.detail
        assert "fleet `shop` (id 0123456789ab)" in told.detail
    assert LedgerReplica(home.folder / "kept").read() == copy
    assert texts(home.ledger()) == ["", "theirs"]


def test_a_home_that_has_gone_back_gets_what_it_lacks_and_no_other_home_does(home: Home) -> None:
    kept, replica = home.kept(), LedgerReplica(home.folder / "kept", home.said)
    kept.append([begun("0123456789ab"), Noted("two"), Noted("three"), Noted("four")])
    assert replica.beyond(kept.read()) == []
    home.lose(2)
    copy = replica.beyond(home.kept().read())
    assert len(copy) == 4
    home.ledger().restore(copy)
    assert texts(home.kept()) == ["", "two", "three", "four"]
    assert replica.beyond(home.kept().read()) == []
    home.lose(2)
    home.kept().read()
    home.ledger().append([Noted("else")])
    assert replica.beyond(home.kept().read()) == []
