"""The ledger in PostgreSQL while connections are cut and ended."""

import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import psycopg
import pytest

from fleet.errors import FleetError
from fleet.history import Noted
from runtime.state.postgres import Database
from tests.cutting_proxy import cutting
from tests.postgres import FreshDatabase
from tests.runtime.ledger.test_homes import APPEND, ROOT
from tests.runtime.ledger.test_postgres import Point, ledger, texts

pytestmark = pytest.mark.postgresql


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Point:
    """Let the home be another URI."""
    return lambda uri: monkeypatch.setenv("FLEET_DB", uri)


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_cut_at_each_message_loses_and_doubles_no_entry(
    database: FreshDatabase, point: Point, *, after: bool
) -> None:
    point(database.uri)
    ledger().append([Noted("first")])
    expected, cuts, refused = ["first"], 0, set[str]()
    for at in range(1, 100):
        with cutting(database.port, at, after=after) as proxy:
            point(database.through(proxy.port))
            try:
                ledger().append([Noted(f"one {at}"), Noted(f"two {at}")])
                expected += [f"one {at}", f"two {at}"]
            except FleetError as error:  # cut before the connection was up
                refused |= {error.diagnostics[0].code}
            cuts += proxy.cut
            point(database.uri)
            assert texts(ledger()) == expected
            if not proxy.cut:
                break
    assert cuts >= 8
    assert refused == {"FC5107"}
    assert f"two {cuts}" in expected, "the answer to the commit was lost, and the entries are there"


def test_a_lease_whose_commit_lost_its_answer_is_held_once(
    database: FreshDatabase, point: Point
) -> None:
    point(database.uri)
    ledger().append([Noted("first")])
    token, refused = 0, set[str]()
    for at in range(1, 100):
        with cutting(database.port, at, after=True) as proxy:
            point(database.through(proxy.port))
            try:
                with ledger().lease("anna") as lease:
                    token += 1
                    assert lease.token == token
                    lease.renew()
            except FleetError as error:
                refused |= {error.diagnostics[0].code}
            if not proxy.cut:
                break
    assert token > 5
    assert refused == {"FC5107"}


def test_a_server_that_ends_connections_at_each_moment_loses_and_doubles_nothing(
    database: FreshDatabase, point: Point
) -> None:
    point(database.uri)
    mine = ledger()
    mine.append([Noted("0")])
    words = [sys.executable, "-c", APPEND, "here", "a", "env:FLEET_DB"]
    ends = "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> "
    with subprocess.Popen(words, cwd=ROOT) as run:
        ended = 0
        while run.poll() is None:
            others = f"pg_backend_pid() and datname = '{database.name}'"
            ended += database.run(ends + others)[0][0]
            seen = mine.count()
            while run.poll() is None and mine.count() < seen + 5:
                pass
    assert run.returncode == 0
    assert ended > 5
    assert texts(mine) == ["0", *(f"a {number}" for number in range(200))]


def test_connections_that_ended_while_they_waited_keep_no_run(
    database: FreshDatabase, point: Point
) -> None:
    point(database.uri)
    ledger().append([Noted("0")])
    start = Barrier(6)

    def hold(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute("select 1")
        start.wait()

    home = Database(Path(), "env:FLEET_DB")
    threads = [Thread(target=home.read, args=(hold, None)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    others = f"where pid <> pg_backend_pid() and datname = '{database.name}'"
    sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity "
    assert database.run(sql + others) == [(6,)]
    ledger().append([Noted("1")])
    assert texts(ledger()) == ["0", "1"]
