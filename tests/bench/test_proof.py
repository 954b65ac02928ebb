"""What a proof prints is kept, with the commit, where the command succeeds and only there."""

import sys
from pathlib import Path

from tests.bench.proof import ROOT, run


def test_the_output_of_a_command_is_kept_under_commit_and_machine(tmp_path: Path) -> None:
    file = tmp_path / "kept.txt"
    said = "print('progress: 1'); print('\\x1b[32mgreen\\x1b[0m'); import os; print(os.getcwd())"
    assert run([sys.executable, "-c", said], file) == 0
    head, command, *lines = file.read_text("utf-8").replace("\n\n", "\n").splitlines()
    assert head.startswith("Commit: ")
    assert command.startswith("$ ")
    assert lines == ["green", "."]
    assert str(ROOT) not in "".join(lines)


def test_a_failed_command_leaves_the_kept_output_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "kept.txt"
    file.write_text("earlier", encoding="utf-8")
    assert run([sys.executable, "-c", "import sys; sys.exit(3)"], file) == 3
    assert file.read_text("utf-8") == "earlier"
