"""`--help` of every command: grouped, short, with examples, quick to print."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import fleetctl.commands
from fleetctl.lazy_group import COMMANDS, GROUPS
from tests.fleetctl.project_on_disk import REPOSITORY

FOLDER = Path(fleetctl.commands.__file__).parent


def test_each_command_is_in_exactly_one_group() -> None:
    listed = Counter(name for commands in GROUPS.values() for name in commands)
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert listed == Counter(files)


def test_the_list_of_commands_is_in_groups_and_imports_none_of_them() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from fleetctl.cli import main_group;"
        "print(CliRunner().invoke(main_group, ['--help']).output);"
        "assert not [name for name in sys.modules if name.startswith('fleetctl.commands.')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    titles = [line.rstrip(":") for line in lines if line.rstrip(":") in GROUPS]
    assert titles == list(GROUPS)
    for name, text in COMMANDS.items():
        assert any(line.split() == [name, *text.split()] for line in lines), name
