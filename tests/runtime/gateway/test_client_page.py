"""The programs of docs/client-api.md, each run as it stands against a gateway."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.runtime.gateway.stage import ACME, OLD, stage

PAGE = Path(__file__).parents[3] / "docs" / "client-api.md"
BLOCKS: list[tuple[str, str]] = re.findall(
    r"```(sh|python|js)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL
)
NAMED = re.compile(r'"model":"acme-support"|(^|\s)acme-support(\s|$)')
OURS = "https://llm.example.com"


async def _answer(command: list[str], folder: Path) -> str:
    given = os.environ | {"FLEET_KEY": ACME}
    program = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=given, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await program.communicate()
    assert program.returncode == 0
    return out.decode()


def _run(tmp_path: Path, text: str, command: list[str], file: str) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            assert OURS in text
            (tmp_path / file).write_text(text.replace(OURS, ours.url), "utf-8")
            answer = await _answer([*command, file], tmp_path)
            assert NAMED.search(answer), answer
            assert [row["version"] for row in ours.rows()] == [OLD]

    asyncio.run(scenario())


def _named(language: str) -> list[str]:
    found = [text for name, text in BLOCKS if name == language]
    assert found, language
    return found


@pytest.mark.needs("curl")
@pytest.mark.parametrize("text", _named("sh"), ids=["curl"])
def test_the_command_of_the_page_gets_an_answer(tmp_path: Path, text: str) -> None:
    _run(tmp_path, text, ["bash", "-e"], "ask.sh")


@pytest.mark.parametrize("text", _named("python"), ids=["openai", "anthropic"])
def test_the_python_of_the_page_gets_an_answer(tmp_path: Path, text: str) -> None:
    _run(tmp_path, text, [sys.executable], "ask.py")


@pytest.mark.needs("javascript")
@pytest.mark.parametrize("text", _named("js"), ids=["openai", "anthropic"])
def test_the_javascript_of_the_page_gets_an_answer(
    tmp_path: Path, text: str, javascript: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(javascript)
    _run(tmp_path, text, ["node"], "ask.mjs")
