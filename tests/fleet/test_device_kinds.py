"""Known kinds of devices, and the memory that servers find on them."""

from pathlib import Path

import pytest

from fleet.hardware import SHEETS
from runtime.project.load import load_project
from tests.broken.project import FLEET, valid, write

GIB = 1 << 30


def test_a_card_has_a_little_less_memory_than_its_name_says() -> None:
    cards = {kind: sheet for kind, sheet in SHEETS.items() if kind != "cpu"}
    assert len(cards) >= 19
    for kind, sheet in cards.items():
        named = int(kind.rpartition("_")[2].removesuffix("g"))
        assert 0.91 * named * 1e9 < sheet.memory_bytes <= named * GIB, kind


@pytest.mark.parametrize(
    ("kind", "declared", "found"),
    [
        ("l40s_48g", 48, int(44.39 * GIB)),
        ("l40s_48g", 40, 40 * GIB),
        ("cpu", 8, 8 * GIB),
        ("tpu_v6e", 32, 32 * GIB),
    ],
)
def test_servers_find_what_is_declared_and_at_most_what_drivers_report(
    tmp_path: Path, kind: str, declared: int, found: int
) -> None:
    device = f"kind: {kind}, memory: {declared}GiB"
    write(tmp_path, valid() | {"fleet.yaml": FLEET.replace("kind: cpu, memory: 8GiB", device)})
    assert load_project(tmp_path, None, {}).fleet.hosts["laptop"].devices[0].memory_bytes == found
