"""The routing table as a file and as a document."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from fleet.errors import FleetError
from fleet.traffic import LimitPolicy, ShadowPolicy, Sticky, TrafficPolicy
from runtime.gateway.admin.state_dir import PREVIOUS_FILE, read_table, write_table
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import build_routes, parse_routes
from tests.runtime.gateway.stage import MAIN, NEW, OLD, alias, table

TABLE = RoutingTable(revision=1)


def test_a_damaged_file_is_kept_beside_the_table_that_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "routes.json").write_text("{", encoding="utf-8")
    write_table(tmp_path, TABLE)
    assert read_table(tmp_path) == TABLE
    assert (tmp_path / "routes.damaged.json").read_text(encoding="utf-8") == "{"


def altered(text: str) -> str:
    return text.replace('"percent":10,', '"percent":60,').replace('"percent":90,', '"percent":40,')


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], altered, lambda _: ""])
def test_a_gateway_starts_from_the_table_before_one_that_is_torn_or_altered(
    tmp_path: Path, damage: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (table({"s1": "http://s1:1"}, revision=each, new=10) for each in (1, 2))
    file = tmp_path / "routes.json"

    async def served() -> RoutingTable:
        async with serving(tmp_path, MAIN):
            gateways = LocalGateways(tmp_path, {"main": MAIN})
            found, notes = await gateways.read_table()
            assert any(str(file) in note for note in map(str, notes))
            await gateways.publish(found.model_copy(update={"revision": found.revision + 1}))
            await gateways.close()
            return found

    write_table(tmp_path, first)
    written = file.read_text("utf-8")
    file.write_text(damage(written), encoding="utf-8")
    with pytest.raises(FleetError, match="damaged"):  # there is none before it
        asyncio.run(served())
    file.write_text(written, encoding="utf-8")
    write_table(tmp_path, second)
    text = damage(file.read_text("utf-8"))
    file.write_text(text, encoding="utf-8")
    assert asyncio.run(served()) == first
    said = capsys.readouterr().err
    assert (str(file) in said, "revision 1" in said, "fleetctl plan" in said) == (True,) * 3
    assert read_table(tmp_path) == second  # which was published anew
    assert (tmp_path / "routes.damaged.json").read_text("utf-8") == text


def test_a_file_that_was_written_without_a_digest_is_read(tmp_path: Path) -> None:
    given = table({"s1": "http://s1:1"}, new=10)
    (tmp_path / "routes.json").write_text(given.canonical() + "\n", encoding="utf-8")
    assert read_table(tmp_path) == given
    write_table(tmp_path, given.model_copy(update={"revision": 2}))
    assert read_table(tmp_path, PREVIOUS_FILE) == given


def test_a_table_that_is_read_in_pieces_is_the_same_one() -> None:
    shadow = ShadowPolicy(NEW, ("s1",), 5, 1)
    policy = TrafficPolicy(sticky=Sticky.KEY, limits=LimitPolicy(concurrency=3), shadow=shadow)
    given = table({"s1": "http://s1:8000", "s2": "http://s2:8000"}, new=10, revision=7, token=3)
    odd = alias("acme", (NEW, 10, ("s1",)), (OLD, 90, ("s2",)), salt='ü"\\', policy=policy)
    given = given.model_copy(update={"aliases": {**given.aliases, "acme-support": odd}})
    plain = json.dumps(given.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    assert given.canonical() == plain
    whole = build_routes(given)
    pieces = parse_routes(json.dumps(given.model_dump(mode="json")).encode())
    assert (pieces.text, pieces.digest, pieces.revision) == (plain.encode(), given.digest, 7)
    assert dict(pieces.routes) == dict(whole.routes)
    assert pieces.urls == whole.urls
    assert RoutingTable.model_validate_json(pieces.text) == given


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"{}", b'{"revision": "x"}', b'{"revision": 1, "more": 2}', b"[" * 9000,
        b'{"revision": 1, "aliases": {"a": 3}}', b'{"revision": 1, "aliases": {"a": {"x": 1}}}',
        b'{"revision": 1, "servers": {"a": null}}', b'{"revision": 1, "keys": {"a": {}}}', b"\xff",
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_with_its_place(raw: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_routes(raw)
