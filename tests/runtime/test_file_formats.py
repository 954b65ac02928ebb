"""An earlier release refuses the files of a later one by name, and changes nothing of them."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.config.files.lockfile import Lock, lock_text, parse_lock
from fleet.errors import (
    ConfigError,
    EngineRejectedError,
    FleetError,
    NewerFormatError,
    newer_server,
    require_known,
)
from fleet.history import Noted
from fleet.resources import Server, ServerFlags, State
from plans.documents import live_file
from runtime.engines.launch_records import RECORD, LaunchRecord, LaunchRecords
from runtime.gateway.admin import admin_socket
from runtime.gateway.admin.state_dir import read_table, write_table
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from runtime.gateway.table.table import FORMAT, RoutingTable
from runtime.gateway.table.table_loader import parse_routes
from runtime.json_client import JsonClient
from runtime.ledger.fallback import FallbackLedger
from runtime.ledger.file import LEDGER_FILE, FileLedger
from runtime.ledger.replica import MIRROR_FILE, LedgerReplica
from tests.runtime.gateway.stage import MAIN, stage, table

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FLAGS = ServerFlags("m", "tiny", 8, 16, 24)
SERVER = Server("tiny-laptop-cpu0", "tiny", "laptop", ("cpu0",), 8100, FLAGS.digest, FLAGS)
SERVERS = {"s1": "http://127.0.0.1:9"}


def refused(act: Callable[[], object], file: str, newest: int = 1) -> str:
    """Return the hint of the refusal, which names the file, its format and the newest known."""
    with pytest.raises(NewerFormatError) as caught:
        act()
    (found,) = caught.value.diagnostics
    assert found.code == "FC5007"
    known = f"`{file}` has format {newest + 1}, and this fleetctl reads up to format {newest}."
    assert known in found.detail
    return found.hint


def ledger(folder: Path) -> FileLedger:
    return FileLedger(folder, run="run", by="tester", clock=lambda: NOON)


def written(previous: bytes, number: int) -> bytes:
    """Return a line of a ledger that follows `previous` and gives its format."""
    line = json.loads(previous)
    body = {**line, "seq": line["seq"] + 1, "previous": line["hash"], "format": number}
    del body["hash"]
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{text[:-1]},"hash":"{digest}"}}\n'.encode()


@pytest.mark.parametrize("found", [None, 1, 0, -1, "2", True, [2]])
def test_what_is_no_later_format_is_for_the_reader_of_the_file(found: object) -> None:
    require_known(found, 1, "x")
    assert "fleetctl" in newer_server("s1", 2, 1).diagnostics[0].hint


def test_a_ledger_with_a_later_entry_is_neither_read_nor_added_to(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    ledger(tmp_path).append([Noted("one")])
    assert b"format" not in path.read_bytes()
    path.write_bytes(path.read_bytes() + written(path.read_bytes(), 2))
    before = path.read_bytes()
    assert "Upgrade" in refused(ledger(tmp_path).read, f"{path}:2")
    refused(lambda: ledger(tmp_path).append([Noted("two")]), f"{path}:2")
    refused(lambda: ledger(tmp_path).newest(1), str(path))
    assert path.read_bytes() == before


def test_a_ledger_that_says_format_1_is_read_and_copied_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ledger(home).append([Noted("one")])
    path = home / LEDGER_FILE
    path.write_bytes(path.read_bytes() + written(path.read_bytes(), 1))
    mirrored = FallbackLedger(ledger(home), LedgerReplica(tmp_path), [])
    assert [each.seq for each in mirrored.read()] == [1, 2]
    assert mirrored.append([Noted("three")]) == 3
    assert [each.seq for each in mirrored.read()] == [1, 2, 3]
    assert (tmp_path / MIRROR_FILE).read_bytes() == path.read_bytes()


def later_table(**more: Any) -> bytes:
    document = table(SERVERS, revision=9).model_dump(mode="json") | {"format": FORMAT + 1} | more
    return json.dumps(document).encode()


@pytest.mark.parametrize("more", [{}, {"zones": {"a": 1}}, {"aliases": "elsewhere"}])
def test_a_later_table_in_the_file_is_refused_and_stays(tmp_path: Path, more: Any) -> None:
    path = tmp_path / "routes.json"
    path.write_bytes(later_table(**more))
    refused(lambda: read_table(tmp_path), str(path), FORMAT)
    refused(lambda: write_table(tmp_path, table(SERVERS, revision=10)), str(path), FORMAT)
    gateways = LocalGateways(tmp_path)
    refused(lambda: asyncio.run(gateways.read_table()), str(path), FORMAT)
    refused(lambda: asyncio.run(gateways.publish(table(SERVERS, revision=10))), str(path), FORMAT)
    refused(lambda: parse_routes(later_table(**more)), "routing table", FORMAT)
    assert path.read_bytes() == later_table(**more)
    assert not path.with_suffix(".damaged.json").exists()


def test_a_table_that_says_format_1_is_the_same_table(tmp_path: Path) -> None:
    given = table(SERVERS, revision=9)
    said = given.model_dump(mode="json")
    assert "format" not in said
    raw = json.dumps({**said, "format": 1}).encode()
    (tmp_path / "routes.json").write_bytes(raw)
    assert read_table(tmp_path) == given
    assert parse_routes(raw).digest == given.digest


def test_a_running_gateway_refuses_a_later_table_and_keeps_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            kept = table(ours.servers, revision=5)
            await ours.gateways.publish(kept)
            socket = admin_socket.short_path(admin_socket.socket_path(ours.state, MAIN))
            async with JsonClient("http://gateway", socket=socket) as client:
                with pytest.raises(EngineRejectedError, match=f"has format {FORMAT + 1}") as caught:
                    await client.put("/-/config", json.loads(later_table(zones={})))
                assert caught.value.status == 400
                assert (await client.get("/-/config"))["digest"] == kept.digest

    asyncio.run(scenario())


def test_a_gateway_starts_from_the_table_before_a_later_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "routes.json"

    async def served() -> int:
        async with serving(tmp_path, MAIN):
            socket = admin_socket.short_path(admin_socket.socket_path(tmp_path, MAIN))
            async with JsonClient("http://gateway", socket=socket) as client:
                return int((await client.get("/-/config"))["revision"])

    path.write_bytes(later_table())
    refused(lambda: asyncio.run(served()), str(path), FORMAT)  # there is none before it
    path.unlink()
    for revision in (1, 2):
        write_table(tmp_path, table(SERVERS, revision=revision))
    path.write_bytes(later_table())
    assert asyncio.run(served()) == 1
    said = capsys.readouterr().err
    assert (
        f"has format {FORMAT + 1}" in said,
        "revision 1" in said,
        "Upgrade fleetctl" in said,
    ) == (True,) * 3
    assert "writes it anew" not in said


def test_a_later_lock_is_refused_with_what_helps() -> None:
    text = lock_text(Lock()).replace('"format": 1', '"format": 6').replace('"bases"', '"zones"')
    with pytest.raises(ConfigError) as caught:
        parse_lock(text)
    (found,) = caught.value.diagnostics
    assert found.detail == "`fleet.lock` has format 6, and this fleetctl reads format 5."
    assert (str(found.place), "Upgrade" in found.hint) == ("fleet.lock:2:1", True)
    assert parse_lock('{"bases": {}}') == parse_lock('{"format": 1}') == Lock()


def test_a_later_launch_record_is_not_taken_for_a_server_that_ended(tmp_path: Path) -> None:
    records = LaunchRecords(tmp_path)
    record = LaunchRecord.of(SERVER, FLAGS, "http://127.0.0.1:8100", "launch")
    records.write(record)
    path = tmp_path / SERVER.name / RECORD
    said = json.loads(path.read_text(encoding="utf-8"))
    assert "format" not in said
    path.write_text(json.dumps({**said, "format": 1}), encoding="utf-8")
    assert records.read(SERVER.name) == record
    path.write_text(json.dumps({**said, "format": 2, "unit": "x"}), encoding="utf-8")
    refused(lambda: records.read(SERVER.name), str(path))


def test_a_server_of_a_later_release_is_left_alone() -> None:
    record = LaunchRecord.of(SERVER, FLAGS, "http://127.0.0.1:8100", "launch")
    with pytest.raises(FleetError, match="are of format 2, and this fleetctl knows up to format 1"):
        record.server(f"2.{FLAGS.digest}")
    later = Server("s", "tiny", "laptop", ("cpu0",), 8100, f"2.{FLAGS.digest}", FLAGS)
    with pytest.raises(FleetError, match="started by a newer fleetctl"):
        live_file.load(live_file.dump(State(resources={later.address: later})))


def test_an_empty_table_has_the_bytes_that_it_always_had() -> None:
    assert RoutingTable(revision=3).canonical() == (
        '{"aliases":{},"keys":{},"revision":3,"servers":{},"token":0}'
    )
