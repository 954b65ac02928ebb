"""`--help` of every command: grouped, short, with examples, quick to print."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import fleetctl.commands
from fleet.errors import FleetError
from fleetctl.cli import main_group
from fleetctl.lazy_group import COMMANDS, GROUPS
from tests.fleetctl.project_on_disk import REPOSITORY

FOLDER = Path(fleetctl.commands.__file__).parent


def test_each_command_is_in_exactly_one_group() -> None:
    listed = Counter(name for commands in GROUPS.values() for name in commands)
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert set(listed.values()) == {1}
    assert files == {module for commands in GROUPS.values() for module, _ in commands.values()}


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


def test_the_page_for_operators_names_each_command() -> None:
    page = (REPOSITORY / "docs" / "operators.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if not re.search(rf"`{name}\b", page)] == []


def commands(
    command: click.Command = main_group, path: tuple[str, ...] = ("fleetctl",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command and subcommand with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


EVERY = dict(commands())


def test_the_commands_are_found() -> None:
    assert len(EVERY) > 70
    assert ("fleetctl", "rollout", "hold") in EVERY


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_is_five_lines_of_text_options_and_an_example(path: tuple[str, ...]) -> None:
    command = EVERY[path]
    context = click.Context(command, info_name=" ".join(path))
    body = click.HelpFormatter(width=78)
    command.format_help_text(context, body)
    lines = [line for line in body.getvalue().splitlines() if line.strip()]
    assert 1 <= len(lines) <= 5
    assert len(lines[0]) > 10
    own = " ".join(path) if path[1:] else "fleetctl -C DIR plan"
    examples = (command.epilog or "").splitlines()
    assert any(line.strip().startswith(own) for line in examples)
    bare = [
        option.name
        for option in command.params
        if isinstance(option, click.Option) and not option.help
        if not isinstance(option.type, click.Choice)
    ]
    assert bare == []


VAGUE = re.compile(r"(it|who|what|whom|nobody|somebody|whoever|so many)\b", re.IGNORECASE)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_names_its_subjects(path: tuple[str, ...]) -> None:
    command = EVERY[path]
    options = [option.help or "" for option in command.params if isinstance(option, click.Option)]
    for text in (command.help or "", *options):
        assert [part for part in re.split(r"[.;:]\s+", text) if VAGUE.match(part)] == []


def test_the_help_of_no_command_imports_what_only_its_work_needs() -> None:
    paths = [[*path[1:], "--help"] for path in EVERY]
    code = (
        "import sys; from click.testing import CliRunner; from fleetctl.cli import main_group\n"
        f"for words in {paths}:\n"
        "    result = CliRunner().invoke(main_group, words)\n"
        "    assert result.exit_code == 0, (words, result.output)\n"
        "heavy = {'asyncio', 'numpy', 'pydantic', 'httpx', 'aiohttp', 'jinja2', 'networkx'}\n"
        "ours = {'fleet.spec', 'fleet.resources', 'fleet.history', 'runtime.workspace'}\n"
        "print(sorted((heavy | ours) & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_is_printed_wherever_it_is_asked_for() -> None:
    run = CliRunner()
    for words in (["rollout", "hold", "-h"], ["rollout", "-h"], ["eval", "run", "x", "--help"]):
        result = run.invoke(main_group, words)
        assert result.exit_code == 0
        assert result.output.startswith("Usage: ")
        assert "Examples:" in result.output
    unknown = run.invoke(main_group, ["rollout", "nosuch", "--help"])
    assert (unknown.exit_code, "No such command 'nosuch'" in unknown.output) == (2, True)


def test_a_value_that_reads_like_a_call_for_help_is_a_value(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("fleet: one\n", encoding="utf-8")
    words = ["-C", str(tmp_path), "release", "acme-support", "--reason", "--help"]
    result = CliRunner().invoke(main_group, words)
    assert not result.output.startswith("Usage: ")
    assert isinstance(result.exception, FleetError)
    assert [told.code for told in result.exception.diagnostics] == ["FC5123"]
