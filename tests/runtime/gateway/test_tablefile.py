"""The routing table as a file and as JSON."""

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from runtime.gateway import tablejson
from runtime.gateway.routing import Lookup
from runtime.gateway.table import RoutingTable
from runtime.gateway.tablefile import read_table, write_table
from tests.runtime.gateway.stage import table

TABLE = RoutingTable(revision=1)


def test_a_damaged_file_is_kept_beside_the_table_that_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "routes.json").write_text("{", encoding="utf-8")
    write_table(tmp_path, TABLE)
    assert read_table(tmp_path) == TABLE
    assert (tmp_path / "routes.damaged.json").read_text(encoding="utf-8") == "{"


def test_a_table_reads_back_from_what_its_digest_covers() -> None:
    made = table({"s2": "http://b", "s1": "http://ä"}, new=30, token=7)
    whole = json.dumps(made.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    assert made.canonical() == tablejson.written(made) == whole
    assert tablejson.read(whole.encode()) == made
    assert Lookup.of(made).digest == made.digest == hashlib.sha256(whole.encode()).hexdigest()
    assert tablejson.read(b'{"revision":1}') == RoutingTable(revision=1)


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b"no", ()),
        (b"{}", ("revision",)),
        (b'{"revision":1,"aliases":[]}', ("aliases",)),
        (b'{"revision":1,"aliases":{"a-b":{"client":"a","salt":"s"}}}', ("aliases", "a-b", "shares")),
        (b'{"revision":1,"keys":{"a/b":{}}}', ("keys", "a/b", "client")),
        (b'{"revision":1,"other":2}', ("other",)),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_with_its_place(raw: bytes, place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        tablejson.read(raw)
    assert caught.value.errors()[0]["loc"] == place
