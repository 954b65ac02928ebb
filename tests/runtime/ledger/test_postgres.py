"""The ledger in PostgreSQL: other users, other releases, other fleets."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from fleet.errors import FleetError, LockHeldError
from fleet.history import Noted
from runtime.ledger import open_ledger
from runtime.ledger.postgres import PostgresLedger
from runtime.ledger.protocol import Ledger
from runtime.state.home import HomeAddress
from runtime.state.postgres import MIGRATIONS, Database
from tests.ports import free_port
from tests.postgres import PASSWORD, FreshDatabase
from tests.runtime.ledger.test_homes import APPEND, ROOT

pytestmark = pytest.mark.postgresql
Point = Callable[[str], None]


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Point:
    """Let the home be another URI."""
    return lambda uri: monkeypatch.setenv("FLEET_DB", uri)


def ledger(fleet: str = "shop", clock: Callable[[], datetime] = now) -> Ledger:
    address = HomeAddress(fleet, postgresql="env:FLEET_DB")
    return open_ledger(Path(), "run", "tester", clock, address)


def texts(mine: Ledger) -> list[str]:
    return [entry.document()["text"] for entry in mine.read()]


def codes(caught: pytest.ExceptionInfo[FleetError]) -> str:
    found = caught.value.diagnostics[0]
    assert PASSWORD not in f"{found} {caught.value!r} {caught.value.__cause__!r}"
    return found.code


def test_two_runs_behind_pgbouncer_lose_and_double_nothing(
    database: FreshDatabase, point: Point
) -> None:
    with database.server.bouncer(database) as port:
        point(database.through(port))
        words = [sys.executable, "-c", APPEND, "here"]
        runs = [subprocess.Popen([*words, n, "env:FLEET_DB"], cwd=ROOT) for n in ("a", "b")]
        assert [run.wait() for run in runs] == [0, 0]
        found = texts(ledger())
        with (
            ledger().lease("anna"),
            pytest.raises(LockHeldError, match="anna"),
            ledger().lease("b"),
        ):
            raise AssertionError("two holders")
    for name in ("a", "b"):
        assert [t for t in found if t.startswith(name)] == [f"{name} {n}" for n in range(200)]
    assert len(found) == 400


def test_two_fleets_of_a_database_know_nothing_of_each_other(
    database: FreshDatabase, point: Point
) -> None:
    point(database.uri)
    ledger("shop").append([Noted("shop")])
    with ledger("shop").lease("anna"), ledger("mill").lease("ben") as lease:
        ledger("mill").append([Noted("mill")], lease.token)
    assert (texts(ledger("shop")), texts(ledger("mill"))) == (["shop"], ["mill"])


@pytest.mark.parametrize("sql", [
    "update fleetctl.entry set line = 'x'", "delete from fleetctl.entry",
    "truncate fleetctl.entry", "delete from fleetctl.migration",
])  # fmt: skip
def test_a_written_entry_is_neither_changed_nor_removed(
    database: FreshDatabase, point: Point, sql: str
) -> None:
    point(database.uri)
    ledger().append([Noted("one")])
    with pytest.raises(psycopg.errors.RaiseException, match="never changed or removed"):
        database.run(sql)
    assert texts(ledger()) == ["one"]


def test_a_release_refuses_tables_of_a_later_release(database: FreshDatabase, point: Point) -> None:
    point(database.uri)
    ledger().append([Noted("one")])
    database.run("insert into fleetctl.migration values (99)")
    for act in (ledger().read, lambda: ledger().append([Noted()])):
        with pytest.raises(FleetError, match=f"format 99, and this .* {len(MIGRATIONS)}") as caught:
            act()
        assert codes(caught) == "FC5007"


def test_tables_are_made_once_by_runs_that_begin_together(
    database: FreshDatabase, point: Point
) -> None:
    point(database.uri)
    assert ledger().read() == []
    words = [sys.executable, "-c", APPEND.replace("200", "3"), "here"]
    runs = [subprocess.Popen([*words, n, "env:FLEET_DB"], cwd=ROOT) for n in "abcd"]
    assert [run.wait() for run in runs] == [0] * 4
    assert len(ledger().read()) == 12


@pytest.mark.parametrize("uri", [
    "postgresql://owner:SECRET@127.0.0.1:PORT/absent", "postgresql://other:SECRET@127.0.0.1:PORT/x",
    "postgresql://owner:SECRET@127.0.0.1:CLOSED/x", "postgresql://owner:SECRET@[::1:5/x",
    "postgres//owner:SECRET@127.0.0.1/x", "host=a port=SECRET", "SECRET", "",
    "postgresql://owner:SECRET@127.0.0.1:PORT/x?sslmode=SECRET",
])  # fmt: skip
def test_a_uri_that_does_not_lead_to_the_database_is_told_without_its_password(
    database: FreshDatabase, point: Point, uri: str
) -> None:
    uri = uri.replace("SECRET", PASSWORD).replace("PORT", str(database.port))
    point(uri.replace("CLOSED", str(free_port())))
    with pytest.raises(FleetError) as caught:
        ledger().read()
    assert codes(caught) in {"FC5107", "FC5144"}
    assert "env:FLEET_DB" in str(caught.value)


def test_a_wrong_password_is_told_without_it(database: FreshDatabase, point: Point) -> None:
    wrong = f"not-{PASSWORD[::-1]}"
    point(database.uri.replace(PASSWORD, wrong))
    with pytest.raises(FleetError, match="password authentication failed") as caught:
        ledger().append([Noted("one")])
    assert codes(caught) == "FC5107"
    assert wrong not in str(caught.value.diagnostics)


def test_a_user_who_may_only_read_reads_and_is_told_why_nothing_is_written(
    database: FreshDatabase, point: Point
) -> None:
    point(database.uri)
    ledger().append([Noted("one")])
    database.run(f"create user {database.name}_reader password '{PASSWORD}'")
    database.run(f"grant usage on schema fleetctl to {database.name}_reader")
    grant = f"grant select on all tables in schema fleetctl to {database.name}_reader"
    database.run(grant)
    point(database.uri.replace("//owner", f"//{database.name}_reader"))
    assert texts(ledger()) == ["one"]
    for act in (lambda: ledger().append([Noted("two")]), ledger().lease("anna").__enter__):
        with pytest.raises(FleetError, match="permission denied") as caught:
            act()
        assert codes(caught) == "FC5106"
    assert texts(ledger()) == ["one"]


def test_a_database_that_takes_no_writes_says_so(database: FreshDatabase, point: Point) -> None:
    point(database.uri)
    ledger().append([Noted("one")])
    database.run(f"alter database {database.name} set default_transaction_read_only = on")
    point(f"{database.uri}?connect_timeout=9")  # a new session
    assert texts(ledger()) == ["one"]
    with pytest.raises(FleetError, match="read-only transaction") as caught:
        ledger().append([Noted("two")])
    assert codes(caught) == "FC5106"


@pytest.mark.parametrize("hours", [-30, 30])
def test_the_clock_of_the_server_ends_leases_whatever_the_clock_here(
    database: FreshDatabase, point: Point, hours: int
) -> None:
    point(database.uri)
    off = ledger(clock=lambda: now() + timedelta(hours=hours))
    with (
        ledger().lease("anna"),
        pytest.raises(LockHeldError, match=r"ends in [56]\d s"),
        off.lease("ben"),
    ):
        raise AssertionError("two holders")
    with off.lease("ben", 0), ledger().lease("anna") as lease:
        assert lease.token == 3


def test_without_the_driver_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(FleetError) as caught:
        ledger().read()
    found = caught.value.diagnostics[0]
    assert (found.code, found.command) == ("FC5140", "pip install 'psycopg[binary]>=3.2'")


def test_a_server_with_weaker_habits_still_keeps_every_entry_in_order(
    database: FreshDatabase, point: Point
) -> None:
    point(database.uri)
    for habit in ("default_transaction_isolation = serializable", "synchronous_commit = off"):
        database.run(f"alter database {database.name} set {habit}")
    words = [sys.executable, "-c", APPEND.replace("200", "20"), "here"]
    runs = [subprocess.Popen([*words, n, "env:FLEET_DB"], cwd=ROOT) for n in "ab"]
    assert [run.wait() for run in runs] == [0, 0]
    home = Database(Path(), "env:FLEET_DB")
    asked = "select current_setting('synchronous_commit'), current_setting('transaction_isolation')"
    assert home.write(lambda c: c.execute(asked).fetchone()) == ("on", "read committed")
    assert len(PostgresLedger(home, "shop", "r", "b", now).read()) == 40
    assert isinstance(psycopg, ModuleType)
