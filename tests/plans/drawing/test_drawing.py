"""The packing, drawn: by reading the picture back, and by looking at the characters."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import FleetError
from fleet.hardware import SHEETS
from fleet.history.values import History
from fleet.placement.model.state import PlacementResult
from fleet.placement.search import place
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import FleetSpec
from plans.drawing import DRAWINGS
from plans.drawing.content import (
    AdapterBlock,
    DeviceBox,
    DeviceGroup,
    Drawing,
    HostRow,
    Part,
    ServerPanel,
    around_server,
    drawing_of,
)
from plans.drawing.labels import columns
from runtime.project.load import load_project
from tests.plans.drawing.drawn_fleets import FLEETS, write

GIB = 1 << 30
SVG = "{http://www.w3.org/2000/svg}"
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def made(name: str, folder: Path) -> tuple[FleetSpec, PlacementResult, Drawing]:
    write(name, folder)
    fleet = load_project(folder, None, {}).fleet
    placement = place(fleet, decide_rollouts(fleet, State({}), History(), NOON), State({}))
    return fleet, placement, drawing_of(fleet, placement)


def picture(drawing: Drawing) -> list[ET.Element]:
    return list(ET.fromstring(DRAWINGS["svg"](drawing)).iter(f"{SVG}rect"))  # noqa: S314 (ours)


def number(mark: ET.Element, name: str) -> float:
    return float(mark.attrib[name])


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_every_adapter_is_drawn_once_per_replica(name: str, tmp_path: Path) -> None:
    _, placement, drawing = made(name, tmp_path)
    expected = Counter(
        (adapter, server) for adapter, servers in placement.bindings.items() for server in servers
    )
    marks = picture(drawing)
    drawn = Counter(
        (each.attrib["data-adapter"], each.attrib["data-at"])
        for each in marks
        if "data-adapter" in each.attrib
    )
    assert drawn == expected


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_parts_add_up_to_their_device_and_stay_inside_it(name: str, tmp_path: Path) -> None:
    fleet, _, drawing = made(name, tmp_path)
    for box in drawing.boxes:
        assert box.free_bytes >= 0
        assert sum(each.bytes for each in box.parts) + box.free_bytes == box.memory_bytes
    memory = {
        (host.name, each.name): each.memory_bytes
        for host in fleet.hosts.values()
        for each in host.devices
    }
    scale: set[float] = set()
    end, right, device = 0.0, 0.0, ""
    for mark in picture(drawing):
        if "data-device" in mark.attrib:
            device, total = mark.attrib["data-device"], int(mark.attrib["data-bytes"])
            assert total in {size for (_, each), size in memory.items() if each == device}
            scale.add(round(number(mark, "width") / total * GIB, 3))
            end = number(mark, "x")
            right = end + number(mark, "width")
        if "data-part" in mark.attrib:
            assert mark.attrib["data-on"] == device
            assert number(mark, "x") == pytest.approx(end, abs=0.02)
            width = int(mark.attrib["data-bytes"]) / GIB
            assert number(mark, "width") == pytest.approx(width * max(scale), rel=0.02, abs=0.02)
            end += number(mark, "width")
            assert end <= right + 0.02
    assert max(scale) == pytest.approx(min(scale), abs=0.002)


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_blocks_of_a_server_are_as_wide_as_a_slot_and_overlap_nothing(
    name: str, tmp_path: Path
) -> None:
    _, _, drawing = made(name, tmp_path)
    marks = picture(drawing)
    frames = {m.attrib["data-server"]: m for m in marks if "data-server" in m.attrib}
    for panel in drawing.panels:
        own = [m for m in marks if m.attrib.get("data-at") == panel.server]
        pinned = [m for m in own if "cached" not in m.attrib["class"]]
        assert len({m.attrib["width"] for m in pinned}) <= 1
        assert len({(m.attrib["x"], m.attrib["y"]) for m in own}) == len(own)
        frame = frames[panel.server]
        for each in own:
            assert number(each, "x") >= number(frame, "x")
            assert number(each, "y") >= number(frame, "y")
            over = number(each, "x") + number(each, "width")
            assert over <= number(frame, "x") + number(frame, "width")
            below = number(each, "y") + number(each, "height")
            assert below <= number(frame, "y") + number(frame, "height")


def test_bars_are_as_high_as_the_load_and_the_worst_hour_is_marked(tmp_path: Path) -> None:
    _, _, drawing = made("plain", tmp_path)
    [panel] = drawing.panels
    bars = [m for m in picture(drawing) if m.attrib.get("data-in") == panel.server]
    assert [int(m.attrib["data-hour"]) for m in bars] == list(range(24))
    tallest = max(panel.hours)
    for mark, part in zip(bars, panel.hours, strict=True):
        top = max(number(m, "height") for m in bars)
        assert number(mark, "height") == pytest.approx(top * part / tallest, abs=0.02)
    [worst] = [m for m in bars if m.attrib["class"] == "worst"]
    assert int(worst.attrib["data-hour"]) == panel.worst_hour
    assert f"busiest {panel.worst_hour:02}:00 UTC" in DRAWINGS["text"](drawing)


@pytest.mark.parametrize("name", sorted(FLEETS))
@pytest.mark.parametrize("form", ["svg", "html"])
def test_a_picture_is_self_contained_and_follows_day_and_night(
    name: str, form: str, tmp_path: Path
) -> None:
    text = DRAWINGS[form](made(name, tmp_path)[2])
    assert "<script" not in text
    assert "prefers-color-scheme: dark" in text
    outside = re.findall(r"(?:href|src)=|url\(|@import|https?://[^\"]*", text)
    assert set(outside) == {"http://www.w3.org/2000/svg"}
    assert " on" not in " ".join(re.findall(r"<[^>]*>", text.replace("data-on", ""))).lower()


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_the_text_form_fits_100_columns(name: str, tmp_path: Path) -> None:
    text = DRAWINGS["text"](made(name, tmp_path)[2])
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_text_form_as_a_whole(tmp_path: Path) -> None:
    assert DRAWINGS["text"](made("plain", tmp_path)[2]) == (
        Path(__file__).with_name("drawing_plain.txt").read_text(encoding="utf-8")
    )


def test_a_tensor_parallel_server_stands_on_all_its_devices(tmp_path: Path) -> None:
    _, _, drawing = made("mixed", tmp_path)
    [group] = [each for each in drawing.groups if len(each.boxes) > 1]
    assert [each.device for each in group.boxes] == ["gpu0", "gpu1", "gpu2", "gpu3"]
    [server] = [each.server for each in group.panels]
    for box in group.boxes:
        assert [(part.name, part.server) for part in box.parts] == [
            ("base", server), ("slots", server), ("kv", server), ("reserve", server)
        ]  # fmt: skip
    text = DRAWINGS["text"](drawing)
    assert f"{server} over 4 devices: max_loras 4, max_lora_rank 16" in text


def test_servers_on_one_device_are_beside_each_other(tmp_path: Path) -> None:
    _, _, drawing = made("shared", tmp_path)
    [group] = drawing.groups
    assert len(group.boxes) == 1
    frames = [m for m in picture(drawing) if "data-server" in m.attrib]
    assert len(frames) == len(group.panels) == 2
    assert len({m.attrib["y"] for m in frames}) == 1
    ends = number(frames[0], "x") + number(frames[0], "width")
    assert ends < number(frames[1], "x")


def test_adapters_that_share_slots_are_drawn_as_waiting(tmp_path: Path) -> None:
    _, _, drawing = made("mixed", tmp_path)
    [panel] = [each for each in drawing.panels if each.base == "llama3_8b"]
    assert [each.cached for each in panel.blocks] == [True, True]
    assert panel.pinned == ()
    assert panel.others == ("shared",)
    waiting = [m for m in picture(drawing) if m.attrib["class"] == "block cached"]
    assert len(waiting) == 2
    assert "wait in host memory: birch-support 1.0.0, birch-triage 1.0.0" in DRAWINGS["text"](
        drawing
    )


def test_idle_devices_and_silent_servers_are_named(tmp_path: Path) -> None:
    fleet, placement, _ = made("mixed", tmp_path)
    assert "  idle: gpu1\n" in DRAWINGS["text"](drawing_of(fleet, placement))
    text = DRAWINGS["text"](drawing_of(fleet, placement, ["llama3_8b-desk-gpu1"]))
    assert "idle" not in text
    assert "  llama3_8b-desk-gpu1 does not answer and keeps its place\n" in text


def by_hand(**changed: Any) -> Drawing:
    panel = ServerPanel(
        "m-h-g0", "m", 4, 16,
        (AdapterBlock("a-b-m-v1.0.0", "a-b", "a", "1.0.0", 8, cached=False),), (),
        (0.2,) * 23 + (0.9,), 23, 0.7, 1000, 100, "uncalibrated",
    )  # fmt: skip
    panel = replace(panel, **changed)
    box = DeviceBox("g0", "<b>&\"'", 10 * GIB, 0.0, (Part("base", "m-h-g0", 4 * GIB),))
    return Drawing("f", (HostRow("h", (DeviceGroup((box,), (panel,)),), (), ()),))


def test_names_from_outside_are_escaped() -> None:
    for form in ("svg", "html"):
        text = DRAWINGS[form](by_hand())
        assert "<b>" not in text
        assert "&lt;b&gt;&amp;" in text


def test_a_server_over_its_limit_says_so_and_rises_above_the_line() -> None:
    text = DRAWINGS["text"](by_hand())
    assert "busiest 23:00 UTC: 90 %, over the limit of 70 % (uncalibrated)" in text
    [limit_line] = [line for line in text.splitlines() if " 70 % ┄" in line]
    assert limit_line.rstrip().endswith("▅▅┄")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"hours": (), "basis": "unknown"}, "load: not known"),
        ({"hours": (0.0,) * 24, "worst_hour": 0}, "no load declared; limit 70 %"),
        ({"kv_tokens": None}, "requests at a time: not known"),
        ({"others": ("not ours", "shared")}, "1 of 4 slots taken, 1 not ours, 1 shared, 1 empty:"),
        (
            {"kv_tokens": 30_000},
            (
                "256 requests at a time: 30,000 KV tokens / 100 of mean context are 300, "
                "planned with 256 at most"
            ),
        ),
        ({"blocks": ()}, "0 of 4 slots taken, 4 empty"),
    ],
)
def test_what_is_not_known_or_out_of_the_ordinary_is_said(
    changed: dict[str, object], line: str
) -> None:
    drawing = by_hand(**changed)
    assert line in " ".join(DRAWINGS["text"](drawing).split())
    assert picture(drawing)


def test_memory_that_is_not_known_is_drawn_as_such(tmp_path: Path) -> None:
    _, _, drawing = made("unknown", tmp_path)
    [box] = drawing.boxes
    assert [part.name for part in box.parts] == ["reserve", "unknown"]
    reported = SHEETS["a100_80g"].memory_bytes
    assert box.free_bytes == reported - int(reported * 0.92)
    assert "? not known" in DRAWINGS["text"](drawing)


def test_servers_that_others_run_have_slots_and_no_device() -> None:
    box_less = replace(by_hand().rows[0].groups[0], boxes=())
    drawing = replace(by_hand(), rows=(HostRow("h", (box_less,), (), ()),))
    assert "[a-b 1.0.0]" in DRAWINGS["text"](drawing)
    assert [m.attrib["data-adapter"] for m in picture(drawing) if "data-adapter" in m.attrib] == [
        "a-b-m-v1.0.0"
    ]


def test_one_server_is_drawn_with_those_on_its_device(tmp_path: Path) -> None:
    _, _, drawing = made("mixed", tmp_path)
    part = around_server(drawing, "llama3_8b-desk-gpu0")
    assert [each.server for each in part.panels] == ["llama3_8b-desk-gpu0"]
    assert [row.host for row in part.rows] == ["desk"]
    with pytest.raises(FleetError) as caught:
        around_server(drawing, "llama3_8b-desk-gpu7")
    [problem] = caught.value.diagnostics
    assert problem.code == "FC5011"
    assert "did you mean `llama3_8b-desk-gpu0`?" in problem.hint


@given(sizes=st.lists(st.integers(0, 1 << 40), min_size=1, max_size=12), width=st.integers(12, 100))
def test_columns_add_up_and_nothing_vanishes(sizes: list[int], width: int) -> None:
    found = columns(sizes, width)
    assert sum(found) == (width if any(sizes) else 0)
    assert [each > 0 for each in found] == [each > 0 for each in sizes]
