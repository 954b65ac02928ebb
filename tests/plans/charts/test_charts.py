"""Charts hold the figures that they are given, and nothing that a strict policy would refuse."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from plans.charts import (
    BarPart,
    ChartSeries,
    TimelineRow,
    TimeSpan,
    bar_chart,
    ceiling,
    day_strip,
    heat_map,
    line_chart,
    share_bar,
    timeline,
)
from plans.dashboard import daily_costs

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
EVIL = "<script>alert(1)</script>"
LABELS = ("00:00", "01:00", "02:00", "03:00")
LOW, HIGH = ChartSeries("low", (1, 1, 1, 1)), ChartSeries("high", (3, 3, 3, 3))
CHARTS = {
    "line": line_chart(
        EVIL, LABELS, [ChartSeries("p95", (1.5, None, 2.0, 9.25))],
        unit="s", band=(LOW, HIGH), limit=5.0, marks=[(2, "2.1.0 at 50 %")],
    ),
    "bars": bar_chart(EVIL, LABELS, [ChartSeries("requests", (1, 2, 3, 4))]),
    "stacked": bar_chart(EVIL, LABELS, [LOW, HIGH], unit="EUR", limit=10),
    "heat": heat_map(EVIL, LABELS, [ChartSeries(EVIL, (0, 1, 20, 93))]),
    "strip": day_strip(EVIL, [0.5] * 24, [0.25] * 24, limit=0.8, now=12),
    "share": share_bar(EVIL, [BarPart("base", 3, "base 3 GiB")], 4, limit=3.5),
    "timeline": timeline(
        EVIL, [TimelineRow("10 %", (TimeSpan(NOON, NOON + timedelta(hours=1), "s0", "bake"),))],
        NOON, NOON + timedelta(hours=2), NOON + timedelta(hours=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_a_chart_is_well_formed_escaped_and_named(chart: str) -> None:
    root = ET.fromstring(chart)  # noqa: S314 (ours)
    pictures = [node for node in root.iter() if node.get("role") == "img"]
    assert pictures
    assert all(node.get("aria-label") and node.find("title") is not None for node in pictures)
    assert all(node.find("desc") is not None for node in pictures)
    assert EVIL not in chart


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_a_chart_needs_no_style_no_script_no_id_and_no_other_host(chart: str) -> None:
    assert not re.search(r"<style|<script|\bstyle=|\bid=|\bon\w+=|://|javascript:", chart)


def test_the_table_of_a_line_has_the_figures_the_gap_and_the_event() -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", CHARTS["line"])[1:]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert cells == [
        ["00:00", "1.5 s", "1 s", "3 s", ""],
        ["01:00", "not known", "1 s", "3 s", ""],
        ["02:00", "2 s", "1 s", "3 s", "2.1.0 at 50 %"],
        ["03:00", "9.25 s", "1 s", "3 s", ""],
    ]


def test_an_unknown_value_splits_the_line_and_is_never_drawn_at_zero() -> None:
    lines = re.findall(r'class="line s0" d="([^"]*)"', CHARTS["line"])
    assert len(lines) == 2
    assert all(",100.00" not in line for line in lines)


def test_stacked_bars_stand_on_another_and_end_at_the_total() -> None:
    first = re.findall(r'd="M100?\.00,|d="M([\d.]+),([\d.]+)h200.00v([\d.]+)', CHARTS["stacked"])
    tops = [(float(y), float(tall)) for _, y, tall in first if y]
    assert tops[0] == (90.0, 10.0)
    assert tops[4] == (60.0, 30.0)


@pytest.mark.parametrize(
    ("values", "top"), [([], 1), ([0], 1), ([0.31], 0.4), ([2.1], 3), ([100], 100), ([9e5], 1e6)]
)
def test_an_axis_ends_at_a_round_number(values: list[float], top: float) -> None:
    assert ceiling(values) == pytest.approx(top)


@pytest.mark.parametrize(
    ("number", "shown"), [(96, 8), (24, 8), (28, 7), (31, 2), (30, 6), (1, 1), (0, 0)]
)
def test_labels_stand_at_their_places_or_at_both_ends(number: int, shown: int) -> None:
    labels = [f"label-{index}" for index in range(number)]
    chart = bar_chart("t", labels, [ChartSeries("s", (1,) * number)])
    assert len(re.findall(r"<span>label", chart)) == shown


def test_the_same_figures_give_the_same_bytes() -> None:
    again = bar_chart(EVIL, LABELS, [ChartSeries("requests", (1, 2, 3, 4))])
    assert again == CHARTS["bars"]


def test_days_show_the_costliest_clients_and_a_day_without_terms_as_not_known() -> None:
    days = [
        {"day": f"2026-02-{day:02}", "client": f"c{number}", "micro": number * 1_000_000}
        for day in range(2, 4)
        for number in range(1, 8)
    ]
    rows = re.findall("<tr>(.*?)</tr>", daily_costs(days))
    assert re.findall("<th.*?>(.*?)</th>", rows[0]) == [
        "At", "c7", "c6", "c5", "c4", "c3", "all others",
    ]  # fmt: skip
    assert len(rows) == 29
    assert re.findall("<td>(.*?)</td>", rows[1]) == ["02-01", *["not known"] * 6]
    assert re.findall("<td>(.*?)</td>", rows[2]) == ["02-02", "7", "6", "5", "4", "3", "3"]


def test_a_box_is_the_darker_the_larger_its_value_and_the_table_has_the_values() -> None:
    chart = CHARTS["heat"]
    assert re.findall('class="(free|fill heat.)" d="M', chart)[5:] == [
        "free", "fill heat1", "fill heat1", "fill heat5",
    ]  # fmt: skip
    assert re.findall("<td>(.*?)</td>", chart)[1:] == ["0", "1", "20", "93"]
    assert re.findall("</svg> (to .*?)</li>", chart) == [f"to {20 * n}" for n in range(1, 6)]
