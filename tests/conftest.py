"""Tests marked `live` run a real vLLM; where none is installed, nobody may overlook that.

They are skipped with a warning that closes the run, or fail where `FLEETCTL_REQUIRE_LIVE=1`
says that a run without them proves too little. `FLEETCTL_VLLM_PYTHON` names another
interpreter than the one `make vllm` sets up. LiteLLM, which a test runs once, is asked for in
the same way, save that a machine may be unable to install it: `make litellm` tried, and failed.
"""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline is an assertion on the time of a machine that may be busy.
settings.register_profile("fleetctl", deadline=None)
settings.load_profile("fleetctl")

# `find_spec` looks without importing: 20 ms instead of 5 s.
_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
_MISSING = pytest.StashKey[str | None]()
_SKIPPED = pytest.StashKey[list[str]]()
_LEFT_OUT = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def vllm_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter that runs vLLM; only tests marked `live` may ask for it."""
    return _vllm_python(request.config)


@pytest.fixture
def litellm_program(request: pytest.FixtureRequest) -> Path:
    """The program of LiteLLM; once it is installed, whoever asks for it must see it run."""
    folder = request.config.rootpath / ".venv-peer-litellm"
    program = folder / "bin" / "litellm"
    if program.is_file() or (folder / ".installed").is_file():
        return program
    tried = folder.is_dir()
    missing = f"LiteLLM {'cannot be' if tried else 'is not'} installed here: `make litellm`, 730 MB"
    if not tried and os.environ.get("FLEETCTL_REQUIRE_LIVE") == "1":
        pytest.fail(f"{missing}; nobody has tried", pytrace=False)
    request.config.stash[_LEFT_OUT].append(f"{request.node.nodeid}: {missing}")
    pytest.skip(missing)


def _vllm_python(config: pytest.Config) -> Path:
    named = os.environ.get("FLEETCTL_VLLM_PYTHON")
    return Path(named) if named else config.rootpath / ".venv-vllm" / "bin" / "python"


def _what_is_missing(python: Path) -> str | None:
    try:
        probe = subprocess.run([python, "-c", _PROBE], check=False, capture_output=True, timeout=60)
    except OSError as error:
        return f"no real vLLM: {python}: {error.strerror}"
    return f"no real vLLM: {python} has no package `vllm`" if probe.returncode else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    live = any(item.get_closest_marker("live") for item in items)
    config.stash[_MISSING] = _what_is_missing(_vllm_python(config)) if live else None
    config.stash[_SKIPPED] = []
    config.stash[_LEFT_OUT] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = item.config.stash[_MISSING]
    if missing is None or item.get_closest_marker("live") is None:
        return
    if os.environ.get("FLEETCTL_REQUIRE_LIVE") == "1":
        pytest.fail(f"{missing}; run `make vllm`", pytrace=False)
    item.config.stash[_SKIPPED].append(item.nodeid)
    pytest.skip(missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    for each in config.stash.get(_LEFT_OUT, []):
        terminalreporter.section("NOT TESTED ON LiteLLM", "!", red=True, bold=True)
        terminalreporter.line(each)
    skipped = config.stash.get(_SKIPPED, [])
    if not skipped:
        return
    terminalreporter.section("NOT TESTED ON A REAL vLLM", "!", red=True, bold=True)
    terminalreporter.line(f"Tests marked `live` that were skipped: {len(skipped)}")
    terminalreporter.line(f"Reason: {config.stash[_MISSING]}")
    terminalreporter.line("Remedy: make vllm")
