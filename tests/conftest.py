"""What all tests share. `tests/needs.py` has the parts that a machine may lack.

`make test` runs three workers. A file of tests goes to one worker, as its tests share fixtures;
files that share a server go to the same worker, first. Tests marked `long` are left to
`make test-long`.
"""

import atexit
import gc
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests import needs, postgres

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

_TOGETHER = {
    "vllm": re.compile(r"on_vllm\.py$|conformance\.py$|/usage/test_sync\.py$"),
    "calibrate": re.compile(r"/calibrate/"),
}
"""Files of tests that share a server, by a name for them all."""
_CLOSING = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter that runs vLLM; only tests marked `live` may ask for it."""
    return needs.vllm_python()


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
    """The program of LiteLLM; only for tests with `needs("litellm")`."""
    return request.config.rootpath / ".venv-peer-litellm" / "bin" / "litellm"


@pytest.fixture
def javascript(request: pytest.FixtureRequest) -> Path:
    """The modules of the JavaScript SDKs; only for tests with `needs("javascript")`."""
    return request.config.rootpath / ".venv-javascript" / "node_modules"


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:  # what takes longest is begun first
        items.sort(key=lambda item: _scope(item.nodeid) not in _TOGETHER)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for part in needs.parts_of(item):
        needs.demand(item, part)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the parts that no test ran on, from the reports of all workers."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        if part := dict(report.user_properties).get(needs.LEFT_OUT):
            reasons[str(part)].append(report.longrepr[2])
    for part, texts in reasons.items():
        name = needs.NEEDS[part].name
        terminalreporter.section(f"NOT TESTED FOR WANT OF {name}", "!", red=True, bold=True)
        terminalreporter.line(f"Tests that were skipped: {len(texts)}")
        terminalreporter.line(f"Reason: {texts[0].removeprefix('Skipped: ')}")
    numbers = {kind: len(reports) for kind, reports in terminalreporter.stats.items()}
    parts = Counter({part: len(texts) for part, texts in reasons.items()})
    if not config.getoption("collectonly"):
        config.stash[_CLOSING] = needs.last_line(numbers, parts)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print the last line, after what pytest itself prints at the end."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _CLOSING in config.stash:
        reporter.write_line(config.stash[_CLOSING])
