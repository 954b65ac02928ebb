"""Documents of a home, and the files of checkouts that go by them: a file home, and a database."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Thread

import pytest

from fleet.errors import FleetError, StalePlanError
from runtime.engines.launch_records import RECORD
from runtime.gateway.admin.state_dir import _GATEWAY_FILE, TABLE_FILE
from runtime.observe import HOSTS_FILE
from runtime.operations.watch.costs import FOLDER as MONTHS
from runtime.state.documents import Document, StateDocuments, open_documents
from runtime.state.home import KNOWN_FILE, HomeAddress
from runtime.state.shared_files import SHARED, SharedFiles
from runtime.usage.log import GATEWAYS
from tests.cutting_proxy import cutting
from tests.postgres import FreshDatabase


@dataclass(frozen=True)
class Checkouts:
    """Checkouts of a fleet with a home."""

    folder: Path
    home: HomeAddress

    def documents(self) -> StateDocuments:
        return open_documents(self.home, self.folder)

    def files(self, name: str, tell: Callable[[str], object] = str) -> SharedFiles:
        return SharedFiles(self.folder / name, self.documents(), tell)

    def write(self, checkout: str, name: str, content: str) -> None:
        path = self.folder / checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def read(self, checkout: str, name: str) -> str | None:
        path = self.folder / checkout / name
        return path.read_text() if path.exists() else None


@pytest.fixture(params=["file", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def checkouts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Checkouts:
    if request.param == "file":
        return Checkouts(tmp_path, HomeAddress("shop", folder=str(tmp_path / "truth")))
    database: FreshDatabase = request.getfixturevalue("database")
    monkeypatch.setenv("FLEET_DB", database.uri)
    return Checkouts(tmp_path, HomeAddress("shop", postgresql="env:FLEET_DB"))


def test_the_shared_files_are_those_of_their_writers() -> None:
    known = f"{GATEWAYS}/*/{_GATEWAY_FILE}"
    assert (TABLE_FILE, HOSTS_FILE, f"servers/*/{RECORD}", known, f"{MONTHS}/*.json") == SHARED


def test_a_document_is_replaced_by_a_writer_who_knows_its_version(checkouts: Checkouts) -> None:
    mine = checkouts.documents()
    assert (mine.versions(), mine.read(["a/b.json"])) == ({}, {})
    first = mine.write("a/b.json", b"1", "")
    assert mine.read(["a/b.json"]) == {"a/b.json": Document(b"1", first)}
    second = mine.write("a/b.json", b"2", first)
    with pytest.raises(StalePlanError, match=r"`a/b\.json` was replaced by another run"):
        mine.write("a/b.json", b"3", first)
    with pytest.raises(StalePlanError):
        mine.write("a/b.json", b"3", "")
    assert mine.write("a/b.json", b"2", first) == second, "the same again is fine"
    assert checkouts.documents().versions() == {"a/b.json": second}
    third = mine.write("a/b.json", b"", second)
    assert mine.read(["a/b.json"]) == {"a/b.json": Document(b"", third)}


def test_of_writers_at_once_who_know_the_same_version_one_writes(checkouts: Checkouts) -> None:
    first = checkouts.documents().write("a", b"0", "")
    start, written = Barrier(8), list[int]()

    def write(number: int) -> None:
        mine = checkouts.documents()
        start.wait()
        try:
            mine.write("a", f"by {number}".encode(), first)
            written.append(number)
        except StalePlanError:
            return

    threads = [Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = written
    found = checkouts.documents().read(["a", "b"])
    assert list(found) == ["a"]
    assert found["a"].body == f"by {winner}".encode()


@pytest.mark.postgresql
def test_a_document_whose_commit_lost_its_answer_is_written_once(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home, version, cuts = HomeAddress("shop", postgresql="env:FLEET_DB"), "", 0
    monkeypatch.setenv("FLEET_DB", database.uri)
    version = open_documents(home, tmp_path).write("a", b"0", "")
    for at in range(1, 100):
        with cutting(database.port, at, after=True) as proxy:
            monkeypatch.setenv("FLEET_DB", database.through(proxy.port))
            try:
                version = open_documents(home, tmp_path).write("a", str(at).encode(), version)
            except FleetError as error:
                assert "FC5107" in [each.code for each in error.diagnostics]  # noqa: PT017
            if not proxy.cut:
                break
            cuts += 1
    assert cuts > 5
    monkeypatch.setenv("FLEET_DB", database.uri)
    assert open_documents(home, tmp_path).read(["a"])["a"] == Document(str(at).encode(), version)


def test_what_a_checkout_writes_another_has_and_what_it_removes_is_gone(
    checkouts: Checkouts,
) -> None:
    a, b, record = checkouts.files("a"), checkouts.files("b"), "servers/tiny/launch.json"
    checkouts.write("a", record, "{1}")
    checkouts.write("a", "usage/rows.json", "of a alone")
    a.push()
    b.pull()
    assert checkouts.read("b", record) == "{1}"
    assert checkouts.read("b", "usage/rows.json") is None
    checkouts.write("b", record, "{2}")
    checkouts.files("b").push()
    a.pull()
    assert checkouts.read("a", record) == "{2}"
    (checkouts.folder / "a" / record).unlink()
    a.push()
    b.pull()
    assert checkouts.read("b", record) is None
    assert sorted(json.loads(checkouts.read("b", KNOWN_FILE) or "")) == [record]


def test_of_two_changes_the_homes_stays_and_that_is_told(checkouts: Checkouts) -> None:
    told: list[str] = []
    a, b = checkouts.files("a"), checkouts.files("b", told.append)
    checkouts.write("a", "hosts.json", "{}")
    a.push()
    b.pull()
    checkouts.write("a", "hosts.json", '{"x": 1}')
    checkouts.write("b", "hosts.json", '{"y": 1}')
    a.push()
    b.push()
    assert checkouts.read("b", "hosts.json") == '{"x": 1}'
    assert ["changed here and in another checkout" in text for text in told] == [True]
    b.push()
    a.pull()
    assert checkouts.read("a", "hosts.json") == '{"x": 1}'


@pytest.mark.parametrize(("here", "kept"), [(3, 3), (2, 2), (1, 2)])
def test_of_two_routing_tables_the_later_revision_stays(
    checkouts: Checkouts, here: int, kept: int
) -> None:
    a, b = checkouts.files("a"), checkouts.files("b")
    checkouts.write("a", TABLE_FILE, '{"revision": 1}')
    a.push()
    b.pull()
    checkouts.write("a", TABLE_FILE, '{"revision": 2, "by": "a"}')
    a.push()
    checkouts.write("b", TABLE_FILE, f'{{"revision": {here}, "by": "b"}}')
    b.push()
    a.pull()
    for checkout in "ab":
        assert json.loads(checkouts.read(checkout, TABLE_FILE) or "")["revision"] == kept
    assert checkouts.read("a", TABLE_FILE) == checkouts.read("b", TABLE_FILE)


@pytest.mark.parametrize("name", ["../routes.json", "servers/../launch.json", "keys/a", "/etc/x"])
def test_a_document_that_is_no_shared_file_is_written_nowhere(
    checkouts: Checkouts, name: str
) -> None:
    if not name.startswith("/"):
        checkouts.documents().write(name, b"forged", "")
    checkouts.files("a").pull()
    assert not [path for path in (checkouts.folder / "a").rglob("*.json") if path.read_text()]
