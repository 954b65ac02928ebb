from pathlib import Path

from runtime.gateway.table import RoutingTable
from runtime.gateway.tablefile import read_table, write_table

TABLE = RoutingTable(revision=1)


def test_a_damaged_file_is_kept_beside_the_table_that_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "routes.json").write_text("{", encoding="utf-8")
    write_table(tmp_path, TABLE)
    assert read_table(tmp_path) == TABLE
    assert (tmp_path / "routes.damaged.json").read_text(encoding="utf-8") == "{"
