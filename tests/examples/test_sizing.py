"""The fleets of examples/sizing: what the guide promises of common hardware, and their drawings.

UPDATE_SIZING=1 draws the pictures and the README's figures anew, for a person to read and commit.
"""

import os
import re
import shutil
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet.history.values import History
from fleet.placement.model.accounts import ServerAccount, placement_accounts
from fleet.placement.model.state import PlacementResult
from fleet.placement.search import place
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import FleetSpec
from fleetctl.cli import main_group
from plans.drawing import DRAWINGS
from plans.drawing.content import Drawing, drawing_of
from plans.drawing.labels import load_label
from runtime.project.load import load_project

SIZING = Path(__file__).parents[2] / "examples" / "sizing"
FLEETS = ("rtx4090", "two_rtx4090", "a100_70b", "a100_small")
HARDWARE = {
    "rtx4090": "one RTX 4090, 24 GB",
    "two_rtx4090": "two RTX 4090, 24 GB each",
    "a100_70b": "one A100, 80 GB",
    "a100_small": "one A100, 80 GB",
}
KIB, MIB = 1 << 10, 1 << 20


@cache
def made(name: str) -> tuple[FleetSpec, PlacementResult]:
    fleet = load_project(SIZING / name, None, {}).fleet
    live = State({})
    return fleet, place(
        fleet, decide_rollouts(fleet, live, History(), datetime(2026, 1, 5, tzinfo=UTC)), live
    )


def drawn(name: str) -> Drawing:
    return drawing_of(*made(name))


def requests(name: str) -> int:
    return sum(each.requests or 0 for each in drawn(name).panels)


@pytest.mark.parametrize(
    ("name", "bases", "devices", "adapters", "at_a_time"),
    [
        ("rtx4090", range(1, 2), 1, range(3, 6), range(50, 81)),
        ("two_rtx4090", range(2, 3), 2, range(6, 11), range(100, 161)),
        ("a100_70b", range(1, 2), 1, range(1, 16), range(200, 10_000)),
        ("a100_small", range(2, 4), 1, range(10, 16), range(200, 10_000)),
    ],
)
def test_a_fleet_is_of_the_size_that_the_guide_gives_for_its_hardware(
    name: str, bases: range, devices: int, adapters: range, at_a_time: range
) -> None:
    fleet, placement = made(name)
    assert len({each.base for each in placement.servers.values()}) in bases
    assert sum(len(host.devices) for host in fleet.hosts.values()) == devices
    assert len(placement.bindings) == len(fleet.adapters)
    assert len(placement.bindings) in adapters
    assert requests(name) in at_a_time
    assert not placement.warnings


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rtx4090", {"llama3_8b-desk-gpu0": (5, 8, 16, 55)}),
        (
            "two_rtx4090",
            {"llama3_8b-desk-gpu0": (5, 8, 16, 62), "mistral_7b-desk-gpu1": (4, 8, 16, 58)},
        ),
        ("a100_70b", {"llama3_70b-rack1-gpu0": (4, 8, 16, 201)}),
        (
            "a100_small",
            {
                "llama3_8b-rack1-gpu0": (5, 8, 16, 57),
                "mistral_7b-rack1-gpu0": (4, 8, 16, 54),
                "qwen25_7b-rack1-gpu0": (5, 8, 16, 217),
            },
        ),
    ],
)
def test_each_server_gets_slots_for_its_adapters_and_two_canaries(
    name: str, expected: dict[str, tuple[int, int, int, int]]
) -> None:
    found = {
        each.server: (len(each.pinned), each.slots, each.rank, each.requests)
        for each in drawn(name).panels
    }
    assert found == expected
    assert all(taken + 2 <= slots for taken, slots, _, _ in found.values())


def books(name: str) -> list[ServerAccount]:
    return list(placement_accounts(*made(name)).values())


def test_the_first_fleet_is_recalculated_by_hand() -> None:
    # Llama 3 8B, 32 layers: query, output, gate, up and down projections, key and value of 1,024;
    # LoRA slots for the vocabulary besides; 16 bit everywhere; rank 16, 8 slots.
    per_layer = (
        (4096 + 4096) + 2 * (4096 + 1024) + (4096 + 4096) + 2 * (4096 + 14336) + (14336 + 4096)
    )
    slot = 2 * 16 * (32 * per_layer + 2 * (128256 + 4096))
    [server] = books("rtx4090")
    assert 8 * slot == 738_852_864
    assert round(slot / MIB) == 88
    # In segments: of 8 slots, the 9 matrices of width 4,096 in each layer and 2 of the vocabulary
    # take 1 MiB, two to a segment of 2; keys and values a quarter of it; the 3 of width 14,336
    # take 3.5 MiB, five to a segment of 20; the vocabulary 31.3 MiB twice, 32 each.
    segments = (9 * 32 + 2) // 2 * 2 + 2 * 32 // 8 * 2 + -(-3 * 32 // 5) * 20 + 2 * 32
    assert server.slot_bytes == segments * MIB == 807_403_520
    usable = int(int(23.52 * 1024 * MIB) * 0.92)
    assert server.kv_bytes == usable - 16_060_522_496 - segments * MIB - 2 * 1024 * MIB
    assert server.kv_tokens == server.kv_bytes // (128 * KIB) == 32_185
    # 440 + 160/2, 380 + 8/2, 520 + 420/2, 420 + 140/2, 460 + 120/2: 524.8, up to the next 64.
    assert drawn("rtx4090").panels[0].context == 576
    assert server.kv_tokens // 576 == 55


def test_servers_that_share_a_card_have_a_third_each_and_keep_within_it() -> None:
    found = books("a100_small")
    assert [each.devices for each in found] == [("gpu0",)] * 3
    for each in found:
        parts = (each.weights_bytes, each.slot_bytes, each.kv_bytes, each.reserve_bytes)
        assert sum(part or 0 for part in parts) <= 80 * 1024 * MIB * 0.307
    assert all(each.peak <= 1 for each in found)


@pytest.mark.parametrize("name", FLEETS)
def test_a_newcomer_can_plan_and_draw_it_without_gpu_or_weights(name: str, tmp_path: Path) -> None:
    project = tmp_path / name
    shutil.copytree(SIZING / name, project, ignore=shutil.ignore_patterns(".fleetctl"))
    plan = CliRunner().invoke(main_group, ["-C", str(project), "plan"], catch_exceptions=False)
    assert plan.exit_code == 0
    assert "the least possible" in plan.stdout
    draw = CliRunner().invoke(main_group, ["-C", str(project), "draw"], catch_exceptions=False)
    assert draw.exit_code == 0
    assert draw.stdout.startswith(f"Fleet {name}: ")
    assert draw.stdout.count("busiest ") == plan.stdout.count("server/") > 0


def row(name: str) -> str:
    drawing = drawn(name)
    bases = ", ".join(sorted({each.base for each in drawing.panels}))
    adapters = sum(len(each.blocks) for each in drawing.panels)
    worst = max(drawing.panels, key=lambda each: max(each.hours))
    top = re.sub(r"busiest (\S+ UTC): (\d+ %).*", r"\2 at \1", load_label(worst))
    price = sum(each.price_per_hour for each in drawing.boxes)
    return (
        f"| [`{name}`]({name}/fleet.yaml) | {HARDWARE[name]} | {bases} | {adapters} "
        f"| {requests(name)} | {top} | {price:.2f} |"
    )


def test_the_readme_and_the_pictures_show_the_figures_of_today() -> None:
    readme = SIZING / "README.md"
    text = readme.read_text(encoding="utf-8")
    rows = "\n".join(row(each) for each in FLEETS)
    fresh = re.sub(r"(\|---\|---.*\n)(?:\|.*\n)*", lambda found: f"{found[1]}{rows}\n", text)
    for name in FLEETS:
        before, head, rest = fresh.partition(f"]({name}/packing.svg)\n\n```text\n")
        fresh = before + head + DRAWINGS["text"](drawn(name)) + "```"
        fresh += rest.partition("```")[2]
    pictures = {SIZING / name / "packing.svg": DRAWINGS["svg"](drawn(name)) for name in FLEETS}
    if os.environ.get("UPDATE_SIZING") == "1":
        readme.write_text(fresh, encoding="utf-8")
        for path, picture in pictures.items():
            path.write_text(picture, encoding="utf-8")
    assert readme.read_text(encoding="utf-8") == fresh
    for path, picture in pictures.items():
        assert path.read_text(encoding="utf-8") == picture
