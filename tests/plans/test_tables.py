import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans.tables import WIDE_GAP, aligned

cells = st.text(st.characters(codec="ascii", exclude_categories=("Cc", "Zs")), min_size=1)


@given(rows=st.lists(st.tuples(cells, cells, cells), min_size=1))
def test_a_column_begins_at_one_place_in_all_rows(rows: list[tuple[str, str, str]]) -> None:
    start = max(len(first) for first, _, _ in rows) + len(WIDE_GAP)
    for (first, second, _), line in zip(rows, aligned(rows, gap=WIDE_GAP), strict=True):
        assert line.startswith(first)
        assert line[start:].startswith(second)


def test_numbers_end_at_one_place_and_no_line_ends_in_spaces() -> None:
    rows = [("NAME", "SIZE", ""), ("a", "7", "x"), ("b", "12345", "")]
    assert aligned(rows, indent="  ", right={1}) == [
        "  NAME   SIZE",
        "  a         7  x",
        "  b     12345",
    ]


def test_no_rows_are_no_lines_and_a_short_row_is_refused() -> None:
    assert aligned([]) == []
    with pytest.raises(ValueError, match="shorter"):
        aligned([("a", "b"), ("c",)])
