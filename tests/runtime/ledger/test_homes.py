"""The contract of every home of the ledger: a file, and a database."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import FleetError, LockHeldError
from fleet.history import Noted, Released, RolledBack, event_of
from runtime.ledger import open_ledger
from runtime.ledger.chain import LedgerPrefix
from runtime.ledger.fallback import FallbackLedger
from runtime.ledger.file import LEDGER_FILE
from runtime.ledger.outbox import LedgerOutbox, deliver
from runtime.ledger.protocol import Ledger
from runtime.ledger.replica import LedgerReplica
from runtime.state.home import HomeAddress
from tests.postgres import FreshDatabase

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Home:
    """A home, and the ways in which it breaks."""

    folder: Path
    address: HomeAddress
    database: FreshDatabase | None

    def ledger(self, clock: Callable[[], datetime] = lambda: NOON) -> Ledger:
        return open_ledger(self.folder, "run", "tester", clock, self.address, self.folder)

    def kept(self) -> FallbackLedger:
        """Return the ledger with a copy, as commands open it."""
        return FallbackLedger(self.ledger(), LedgerReplica(self.folder / "kept", self.said), [])

    def said(self, text: str) -> None:
        (self.folder / "said").write_text(text)

    def lose(self, after: int) -> None:
        """Lose the entries after a number, as a backup that is put back does."""
        if self.database is None:
            path = self.folder / LEDGER_FILE
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:after]))
            return
        self.unguarded(f"delete from fleetctl.entry where seq > {after}")  # noqa: S608 (a number)

    def forge(self) -> None:
        """Change the second entry."""
        if self.database is None:
            path = self.folder / LEDGER_FILE
            path.write_bytes(path.read_bytes().replace(b'"two"', b'"2"'))
            return
        change = "convert_to(replace(convert_from(line, 'UTF8'), '\"two\"', '\"2\"'), 'UTF8')"
        self.unguarded(f"update fleetctl.entry set line = {change} where seq = 2")  # noqa: S608 (same)

    def unguarded(self, sql: str) -> None:
        assert self.database
        self.database.run(f"set session_replication_role = replica; {sql}")


@pytest.fixture(params=["file", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    if request.param == "file":
        return Home(tmp_path, HomeAddress("shop"), None)
    database: FreshDatabase = request.getfixturevalue("database")
    monkeypatch.setenv("FLEET_DB", database.uri)
    return Home(tmp_path, HomeAddress("shop", postgresql="env:FLEET_DB"), database)


def texts(ledger: Ledger) -> list[str]:
    return [entry.document().get("text", "") for entry in ledger.read()]


def test_what_is_appended_is_read_back_in_order_as_one_chain(home: Home) -> None:
    mine = home.ledger()
    assert (mine.read(), mine.is_empty(), mine.count(), mine.mark()) == ([], True, 0, None)
    assert mine.append([]) == 0
    assert mine.append([Noted("one"), Noted("zwei ü €")]) == 2
    before = mine.mark()
    assert mine.append([Released("acme-support"), Noted()]) == 4
    assert mine.mark() != before
    entries = home.ledger().read()
    assert [(entry.seq, entry.event.kind) for entry in entries] == [
        (1, "note"), (2, "note"), (3, "released"), (4, "note")]  # fmt: skip
    assert entries[1].document() == {"text": "zwei ü €"}
    assert entries[2].previous == entries[1].hash
    assert entries[0].time == NOON
    assert [entry.seq for entry in mine.read(after=3)] == [4]
    assert mine.newest(2) == entries[2:]
    assert (mine.is_empty(), mine.count()) == (False, 4)


def test_entries_since_a_prefix_are_given_and_all_where_the_prefix_is_anothers(home: Home) -> None:
    mine = home.ledger()
    mine.append([Noted("one"), Noted("two")])
    read = mine.since(LedgerPrefix())
    assert [entry.seq for entry in read] == [1, 2]
    end = read.end
    mine.append([Noted("three")])
    later = mine.since(end)
    assert later.start == end
    assert [entry.seq for entry in later] == [3]
    other = LedgerPrefix(2, "0" * 64, end.size, end.sha256 and "0" * 64)
    anew = mine.since(other)
    assert anew.start == LedgerPrefix()
    assert [entry.seq for entry in anew] == [1, 2, 3]


APPEND = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from fleet.history import Noted
from runtime.ledger import open_ledger
from runtime.state.documents import HomeAddress
folder, name, postgresql = sys.argv[1:]
address = HomeAddress("shop", postgresql=postgresql)
mine = open_ledger(Path(folder), "r", "b", lambda: datetime.now(UTC), address)
for number in range(200):
    mine.append([Noted(f"{name} {number}")])
"""


def test_two_runs_that_append_200_entries_each_at_once_lose_and_double_nothing(home: Home) -> None:
    words = [sys.executable, "-c", APPEND, str(home.folder)]
    runs = [
        subprocess.Popen([*words, name, home.address.postgresql], cwd=ROOT) for name in ("a", "b")
    ]
    assert [run.wait() for run in runs] == [0, 0]
    entries = home.ledger().read()
    assert [entry.seq for entry in entries] == list(range(1, 401))
    for name in ("a", "b"):
        mine = [text for text in texts(home.ledger()) if text.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(200)]


def test_the_lease_has_one_holder_and_its_token_grows(home: Home) -> None:
    with home.ledger().lease("anna") as first:
        with (
            pytest.raises(
                LockHeldError, match=r"anna is changing it; its lease 1 ends in [56]\d s"
            ),
            home.ledger().lease("ben"),
        ):
            raise AssertionError("two holders")
        first.renew()
        assert home.ledger().append([Noted()], first.token) == 1
        assert home.ledger().append([RolledBack("a")]) == 2, "an emergency needs no lease"
    with home.ledger().lease("ben") as second:
        assert (first.token, second.token) == (1, 2)
    home.ledger().raise_token(7)
    with home.ledger().lease("ben") as third:
        assert third.token == 8


def test_an_expired_lease_is_taken_over_and_its_late_writer_is_refused(home: Home) -> None:
    mine = home.ledger()
    with mine.lease("anna", 0) as anna, mine.lease("ben") as ben:
        assert mine.append([Noted("ben")], ben.token) == 1
        with pytest.raises(LockHeldError, match="lease 1, and lease 2"):
            mine.append([Noted("anna")], anna.token)
        with pytest.raises(LockHeldError):
            anna.renew()
    assert texts(mine) == ["ben"]


HOLD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from runtime.ledger import open_ledger
from runtime.state.documents import HomeAddress
folder, postgresql = sys.argv[1:]
address = HomeAddress("shop", postgresql=postgresql)
mine = open_ledger(Path(folder), "r", "b", lambda: datetime.now(UTC), address)
with mine.lease("a run that is killed"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_holder_locks_nobody_out(home: Home) -> None:
    clock = lambda: datetime.now(UTC)  # noqa: E731 (one line says it)
    words = [sys.executable, "-c", HOLD, str(home.folder), home.address.postgresql]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(LockHeldError, match="a run that is killed"),
            home.ledger(clock).lease("me"),
        ):
            raise AssertionError("two holders")
        os.kill(holder.pid, signal.SIGKILL)
    with home.ledger(clock).lease("me") as lease:
        assert lease.token == 2


def test_a_changed_entry_is_noticed_and_named(home: Home) -> None:
    home.ledger().append([Noted("one"), Noted("two"), Noted("three")])
    home.forge()
    with pytest.raises(FleetError, match=r"Line 2 .* was changed") as caught:
        home.ledger().read()
    assert caught.value.diagnostics[0].code == "FC5102"


def test_an_empty_home_that_had_entries_takes_none_until_its_copy_is_put_back(home: Home) -> None:
    mine = home.kept()
    mine.append([Noted("one"), Noted("two")], 0)
    with mine.lease("anna") as lease:
        mine.append([Noted("three")], lease.token)
    copy = LedgerReplica(home.folder / "kept").read()
    home.lose(0)
    with pytest.raises(FleetError, match="3 entries were read from it before") as caught:
        home.kept().append([Noted("four")])
    assert caught.value.diagnostics[0].code == "FC5109"
    with pytest.raises(FleetError, match="3 entries were read from it before"):
        home.kept().history()
    assert home.ledger().is_empty()
    done = home.ledger().restore(copy)
    assert (done.entries, done.dropped, done.aside) == (3, 0, None)
    assert home.kept().append([Noted("four")]) == 4
    assert texts(home.kept()) == ["one", "two", "three", "four"]


def test_a_home_that_went_back_is_told_and_the_copy_of_before_is_kept(home: Home) -> None:
    home.kept().append([Noted("one"), Noted("two"), Noted("three")])
    home.lose(1)
    home.kept().history()
    assert "3 entries were read of it, and it has 1 entries" in (home.folder / "said").read_text()
    copy = LedgerReplica(home.folder / "kept")
    lacking = copy.lacking(home.ledger().read())
    assert list(lacking.values()) == [3]
    assert copy.cut(home.ledger().read()) == lacking


def test_a_copy_of_another_ledger_takes_no_place(home: Home) -> None:
    home.ledger().append([Noted("one")])
    copy = home.ledger().read()
    home.lose(0)
    home.ledger().append([Noted("another")])
    with pytest.raises(FleetError, match=r"other lines than the copy|No line of"):
        home.ledger().restore(copy)
    assert texts(home.ledger()) == ["another"]


def test_what_was_queued_is_delivered_once(home: Home) -> None:
    def away() -> Ledger:
        raise FleetError.of("FC5107", "The ledger's home does not answer", "no route to host")

    queue = home.folder / "queued"
    back = event_of("rolled_back", {"alias": "acme-support", "adapter": "a"})
    said = LedgerOutbox(away, queue, by="ann", run="r7").append([back])
    assert "it is queued" in said
    waiting = [(path, path.read_bytes()) for path in queue.glob("[!.]*.json")]
    assert deliver(queue, home.ledger()) == 1
    for path, content in waiting:  # a crash between the entry and the end of its file
        path.write_bytes(content)
    assert deliver(queue, home.ledger()) == 0
    (entry,) = home.ledger().read()
    assert entry.event.queued is not None
    assert entry.event.queued["by"] == "ann"


def test_the_history_is_folded_on_where_the_home_has_grown(home: Home) -> None:
    home.kept().append([RolledBack("acme-support", adapter="a")])
    assert home.kept().history() == home.ledger().history()
    mine = home.kept()
    mine.history()
    home.ledger().append([Noted("later")])
    assert mine.history() == home.ledger().history()
    assert LedgerReplica(home.folder / "kept").read() == home.ledger().read()
