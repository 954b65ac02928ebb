"""The tutorial as a newcomer plays it, outside the repository: here, and from a wheel for long."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed import REPOSITORY, environment, install_wheel
from tests.ports import free_port
from tests.transcripts import InProcess, Shell, held, played

PAGE = REPOSITORY / "docs" / "tutorial.md"
PORTS = ("8080", "8100", "8200", "8300")
QUICKSTART = REPOSITORY / "examples" / "quickstart"
ITEMS = 24
HOSTS = re.compile(r"^hosts:\n.*?\n\n", re.DOTALL | re.MULTILINE)
SKIPPED = re.compile(
    r"^(for|python3|cat) |lotus|what-if|validate|status|advance|create --all|drift|plan$"
)
"""Commands that are about other clients, or change nothing."""


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """Variables of a newcomer, whose home is empty."""
    for folder in ("home", "work"):
        (tmp_path / folder).mkdir()
    return {"HOME": str(tmp_path / "home"), "NO_COLOR": "1", "GITHUB_ACTOR": "ana"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as installed from a wheel of this checkout."""
    return install_wheel(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def shell(tmp_path: Path, own: dict[str, str], program: Path) -> Iterator[Shell]:
    """A shell in an empty folder, with the installed program on its path."""
    own["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    made = Shell(tmp_path / "work", {**environment(), **own}, ports())
    where = made.run("python - <<<'import fleetctl; print(fleetctl.__file__)'")
    assert str(REPOSITORY) not in where
    yield made
    made.run("fleetctl gateway stop; fleetctl server stop --all")


def ports() -> dict[str, str]:
    """Return free ports for those of the page."""
    return {port: str(free_port()) for port in PORTS}


@pytest.mark.needs("curl")
def test_the_tutorial_shows_what_its_commands_print_here(
    tmp_path: Path, own: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for name, text in own.items():
        monkeypatch.setenv(name, text)
    here = InProcess(tmp_path / "work", os.environ, ports())
    try:
        held(PAGE, here)
    finally:
        here.run("fleetctl gateway stop; fleetctl server stop --all")


@pytest.mark.needs("curl")
@pytest.mark.long
def test_the_tutorial_shows_what_its_commands_print(shell: Shell) -> None:
    held(PAGE, shell)


@pytest.mark.needs("curl")
@pytest.mark.live
@pytest.mark.long
def test_the_tutorial_serves_one_client_on_a_real_vllm(shell: Shell, vllm_python: Path) -> None:
    models = QUICKSTART / "models"
    shutil.copytree(models / "base" / "tiny", shell.folder / "agency/models/base/tiny")
    for folder, version in (("trained", "2.1.0"), ("retrained", "2.2.0")):
        shutil.copytree(
            models / f"adapters/acme/support-v{version}", shell.folder / folder / "acme"
        )
    questions = (QUICKSTART / "golden/support.jsonl").read_text("utf-8").splitlines(keepends=True)
    shell.write("agency/golden/support.jsonl", "".join(questions[:ITEMS]))
    devices = "devices: {cpu0: {kind: cpu, memory: 6GiB}}"
    box = f"box1: {{engine: local, python: {vllm_python}, port: 8100, {devices}}}"
    text = HOSTS.sub(f"hosts:\n  {box}\n\n", PAGE.read_text(encoding="utf-8"))
    for old, new in (
        ("small", "tiny"),
        ("max_model_len: 8192", "max_model_len: 512, dtype: bfloat16, kv_cache: 64MiB"),
        ("--tier premium", "--tier standard"),
        ("max: 3pp}    # on the golden set", "max: 30pp}    # on the golden set"),
    ):
        assert old in text
        text = text.replace(old, new)
    found, _ = played(text, shell, lambda line: not SKIPPED.search(line))
    told = "\n".join(line for command in found for line in command.told)
    assert "x-fleetctl-version: acme-support-tiny-v1.0.0" in told
    assert 'content":"queue=' in told
    assert "Moves on: acme-support: 1.1.0 0 % -> 10 %" in told
    assert "acme-support back on 1.0.0 in" in told
    assert "Error" not in told
