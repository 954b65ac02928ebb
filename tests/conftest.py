"""Tests marked `live` run a real vLLM; where none is installed, the run says so loudly.

They are skipped with a warning that closes the run, or fail where `FLEETCTL_REQUIRE_LIVE=1`
says that a run without them proves too little. `FLEETCTL_VLLM_PYTHON` names another
interpreter than the one `make vllm` sets up. LiteLLM, which a test runs once, is asked for in
the same way, save that a machine may be unable to install it: `make litellm` tried, and failed.

`make test` runs three workers. A file of tests goes to one worker, as its tests share fixtures;
files that share a server go to the same worker, first. Tests marked `long` are left to
`make test-long`.
"""

import atexit
import gc
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests import postgres
from tests.beds import boxes, rays
from tests.quadlets import GENERATOR, Generate, generated

# Modules and tests that are collected stay to the end: looking for garbage among them finds none.
gc.disable()

# Sockets of gateways lie in the home of the user, and those of tests in a folder of their own.
if "FLEETCTL_RUN_DIR" not in os.environ:
    os.environ["FLEETCTL_RUN_DIR"] = tempfile.mkdtemp(prefix="fleetctl-run-")
    atexit.register(shutil.rmtree, os.environ["FLEETCTL_RUN_DIR"], ignore_errors=True)

# Tests trust nothing but what they say, whatever the person who runs them trusts.
if "FLEETCTL_TESTS_TRUST" not in os.environ:
    os.environ["FLEETCTL_TESTS_TRUST"] = tempfile.mkdtemp(prefix="fleetctl-trust-")
    atexit.register(shutil.rmtree, os.environ["FLEETCTL_TESTS_TRUST"], ignore_errors=True)
    os.environ["XDG_CONFIG_HOME"] = os.environ["FLEETCTL_TESTS_TRUST"]

# On the branch of a fork, CI lets fewer commands run than the tests do.
for _name in ("GITHUB_EVENT_NAME", "CI_MERGE_REQUEST_SOURCE_PROJECT_ID"):
    os.environ.pop(_name, None)

# The cache of parsed files lies in the home of the user, and that of tests in a folder of its own.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="fleetctl-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# A deadline is an assertion on the time of a machine that may be busy.
settings.register_profile("fleetctl", deadline=None)
settings.load_profile("fleetctl")

# `find_spec` looks without importing: 20 ms instead of 5 s.
_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
_MISSING = pytest.StashKey[str | None]()
_TOGETHER = {
    "vllm": re.compile(r"on_vllm\.py$|conformance\.py$|/usage/test_sync\.py$"),
    "calibrate": re.compile(r"/calibrate/"),
}
"""Files of tests that share a server, by a name for them all."""
_BROWSER = pytest.StashKey[str | None]()
_PROMETHEUS = pytest.StashKey[str | None]()
_HAPROXY = pytest.StashKey[str | None]()
_SOURCES = pytest.StashKey[str | None]()
PROMETHEUS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
"""Programs that tests marked `prometheus` run."""
SOURCES = ("docker-registry", "radosgw", "radosgw-admin")
"""Programs that tests marked `sources` run."""
_REMEDIES = {
    "LiteLLM": "make litellm",
    "JAVASCRIPT": "make javascript",
    "CHROMIUM": "make browser",
    "PROMETHEUS": "make prometheus",
    "HAPROXY": "make haproxy",
    "SOURCES": "make sources",
    "POSTGRESQL": "make postgresql",
    "BOXES": "make proof-boxes",
    "RAY": "make ray",
    "SYSTEMD": "apt-get install systemd",
    "QUADLET": "make podman",
}
_POSTGRESQL = pytest.StashKey[str | None]()
_BOXES = pytest.StashKey[str | None]()
_RAY = pytest.StashKey[str | None]()
_LEFT_OUT = "left out"
"""Property of a skipped test: the program that it needs. Reports of workers carry it."""


@pytest.fixture(scope="session")
def vllm_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter that runs vLLM; only tests marked `live` may ask for it."""
    return _vllm_python(request.config)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.PostgresServer]:
    """A PostgreSQL; only tests marked `postgresql` may ask for it."""
    with postgres.running() as server:
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest) -> postgres.FreshDatabase:
    """A new database, for tests marked `postgresql`."""
    server: postgres.PostgresServer = request.getfixturevalue("postgresql")
    return server.database()


@pytest.fixture
def litellm_program(request: pytest.FixtureRequest) -> Path:
    """The program of LiteLLM; once it is installed, a test that asks for it runs it."""
    folder = request.config.rootpath / ".venv-peer-litellm"
    program = folder / "bin" / "litellm"
    if program.is_file() or (folder / ".installed").is_file():
        return program
    tried = folder.is_dir()
    missing = f"LiteLLM {'cannot be' if tried else 'is not'} installed here: `make litellm`, 730 MB"
    if not tried and os.environ.get("FLEETCTL_REQUIRE_LIVE") == "1":
        pytest.fail(f"{missing}; no installation was tried", pytrace=False)
    request.node.user_properties.append((_LEFT_OUT, "LiteLLM"))
    pytest.skip(missing)


@pytest.fixture
def javascript(request: pytest.FixtureRequest) -> Path:
    """The modules of the JavaScript SDKs, for a test that runs them once they are installed."""
    folder = request.config.rootpath / ".venv-javascript"
    if (folder / ".installed").is_file():
        return folder / "node_modules"
    missing = "The SDKs of JavaScript are not installed: `make javascript`, which needs Node.js"
    if not folder.is_dir() and os.environ.get("FLEETCTL_REQUIRE_LIVE") == "1":
        pytest.fail(f"{missing}; no installation was tried", pytrace=False)
    request.node.user_properties.append((_LEFT_OUT, "JAVASCRIPT"))
    pytest.skip(missing)


@pytest.fixture
def systemd_analyze(request: pytest.FixtureRequest) -> str:
    """The program that checks units."""
    if program := shutil.which("systemd-analyze"):
        return program
    request.node.user_properties.append((_LEFT_OUT, "SYSTEMD"))
    pytest.skip("systemd-analyze is not installed")


@pytest.fixture
def generate(request: pytest.FixtureRequest) -> Generate:
    """The generator of podman that makes units of Quadlet files."""
    if GENERATOR.exists():
        return generated
    request.node.user_properties.append((_LEFT_OUT, "QUADLET"))
    pytest.skip("podman is not installed")


def _vllm_python(config: pytest.Config) -> Path:
    named = os.environ.get("FLEETCTL_VLLM_PYTHON")
    return Path(named) if named else config.rootpath / ".venv-vllm" / "bin" / "python"


def _what_is_missing(python: Path) -> str | None:
    try:
        probe = subprocess.run([python, "-c", _PROBE], check=False, capture_output=True, timeout=60)
    except OSError as error:
        return f"no real vLLM: {python}: {error.strerror}"
    return f"no real vLLM: {python} has no package `vllm`" if probe.returncode else None


def _scope(nodeid: str) -> str:
    """Return the group of a test's file, or else the file."""
    file = nodeid.partition("::")[0]
    return next((name for name, files in _TOGETHER.items() if files.search(file)), file)


class _ByServer(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives all files that share a server to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByServer | None:
    return _ByServer(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    live = any(item.get_closest_marker("live") for item in items)
    if "PYTEST_XDIST_WORKER" in os.environ:  # what takes longest is begun first
        items.sort(key=lambda item: _scope(item.nodeid) not in _TOGETHER)
    config.stash[_MISSING] = _what_is_missing(_vllm_python(config)) if live else None
    config.stash[_BROWSER] = None if chromium() else "no Chromium that Playwright can start"
    absent = ", ".join(name for name in PROMETHEUS if shutil.which(name) is None)
    config.stash[_POSTGRESQL] = (
        None if postgres.programs() else "not installed: PostgreSQL or PgBouncer"
    )
    config.stash[_BOXES] = boxes.missing()
    config.stash[_RAY] = rays.missing()
    absent_sources = [name for name in SOURCES if not shutil.which(name)]
    config.stash[_SOURCES] = f"not installed: {absent_sources}" if absent_sources else None
    config.stash[_HAPROXY] = None if shutil.which("haproxy") else "HAProxy is not installed"
    config.stash[_PROMETHEUS] = f"not installed: {absent}" if absent else None


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def chromium() -> str | None:
    """Return the path of Chromium; None: it, or Playwright, is not installed."""
    return shutil.which("chromium") if importlib.util.find_spec("playwright") else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, key, program, target in (
        ("live", _MISSING, "A REAL vLLM", "vllm"),
        ("browser", _BROWSER, "CHROMIUM", "browser"),
        ("prometheus", _PROMETHEUS, "PROMETHEUS", "prometheus"),
        ("haproxy", _HAPROXY, "HAPROXY", "haproxy"),
        ("sources", _SOURCES, "SOURCES", "sources"),
        ("postgresql", _POSTGRESQL, "POSTGRESQL", "postgresql"),
        ("boxes", _BOXES, "BOXES", "proof-boxes"),
        ("ray", _RAY, "RAY", "ray"),
    ):
        missing = item.config.stash[key]
        if missing is None or item.get_closest_marker(marker) is None:
            continue
        if os.environ.get("FLEETCTL_REQUIRE_LIVE") == "1":
            pytest.fail(f"{missing}; run `make {target}`", pytrace=False)
        item.user_properties.append((_LEFT_OUT, program))
        pytest.skip(missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Close the run with the programs that no test ran, from the reports of all workers."""
    found: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        if program := dict(report.user_properties).get(_LEFT_OUT):
            found[str(program)].append(report.longrepr[2])
    for program, reasons in found.items():
        terminalreporter.section(f"NOT TESTED ON {program}", "!", red=True, bold=True)
        terminalreporter.line(f"Tests that were skipped: {len(reasons)}")
        terminalreporter.line(f"Reason: {reasons[0].removeprefix('Skipped: ')}")
        remedy = _REMEDIES.get(program, "make vllm")
        terminalreporter.line(f"Remedy: {remedy}")
