"""`fleetctl draw`: the packing on the terminal and in files."""

from pathlib import Path
from xml.etree import ElementTree as ET

from click.testing import CliRunner

from fleetctl.cli import main_group
from tests.plans.drawing.drawn_fleets import write


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    write("plain", tmp_path)
    out = tmp_path / "packing.svg"

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(
            main_group, ["-C", str(tmp_path), "draw", *arguments], catch_exceptions=False
        )
        assert result.exit_code == 0
        return result.stdout

    drawings = Path(__file__).parents[2] / "plans" / "drawing"
    expected = (drawings / "drawing_plain.txt").read_text(encoding="utf-8")
    assert run() == expected
    assert run("--format", "svg", "--out", str(out)) == ""
    assert ET.parse(out).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 (ours)
    assert run("--server", "llama3_8b-desk-gpu0") == expected
    assert run("--format", "html").startswith("<!doctype html>")
