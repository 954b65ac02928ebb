"""The routing table as a file and as a document."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from fleet.traffic import Limits, Policy, Shadow, Sticky
from runtime.gateway.routing import Lookup
from runtime.gateway.table import RoutingTable
from runtime.gateway.tablefile import read_table, write_table
from runtime.gateway.tableparse import read_lookup
from tests.runtime.gateway.stage import NEW, OLD, alias, table

TABLE = RoutingTable(revision=1)


def test_a_damaged_file_is_kept_beside_the_table_that_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "routes.json").write_text("{", encoding="utf-8")
    write_table(tmp_path, TABLE)
    assert read_table(tmp_path) == TABLE
    assert (tmp_path / "routes.damaged.json").read_text(encoding="utf-8") == "{"


def test_a_table_that_is_read_in_pieces_is_the_same_one() -> None:
    shadow = Shadow(NEW, ("s1",), 5, 1)
    policy = Policy(sticky=Sticky.KEY, limits=Limits(concurrency=3), shadow=shadow)
    given = table({"s1": "http://s1:8000", "s2": "http://s2:8000"}, new=10, revision=7, token=3)
    odd = alias("acme", (NEW, 10, ("s1",)), (OLD, 90, ("s2",)), salt='ü"\\', policy=policy)
    given = given.model_copy(update={"aliases": {**given.aliases, "acme-support": odd}})
    plain = json.dumps(given.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    assert given.canonical() == plain
    whole = Lookup.of(given)
    pieces = read_lookup(json.dumps(given.model_dump(mode="json")).encode())
    assert (pieces.text, pieces.digest, pieces.revision) == (plain.encode(), given.digest, 7)
    assert dict(pieces.all()) == dict(whole.all())
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
        read_lookup(raw)
