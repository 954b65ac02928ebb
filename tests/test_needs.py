"""Parts that a machine lacks are named by the last line of a run."""

from collections import Counter

import pytest

from tests import needs

CONFTEST = """
from tests import conftest, needs
from tests.conftest import pytest_runtest_setup, pytest_terminal_summary, pytest_unconfigure
needs.missing = {"rsync": "not installed: rsync", "root": None}.get
"""
TESTS = """
import pytest

def test_a(): pass

@pytest.mark.needs("root", "rsync")
def test_b(): pass

@pytest.mark.needs("root")
def test_c(): pass

@pytest.mark.skip("another reason")
def test_d(): pass
"""
pytest_plugins = ["pytester"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_last_line_says_what_was_skipped_and_what_brings_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    """Before, pytest's count was the last line, and remedies were to be put together from above."""
    monkeypatch.setenv("PYTHONPATH", str(needs.ROOT))
    monkeypatch.delenv("FLEETCTL_REQUIRE_LIVE", raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    done = pytester.runpytest_subprocess("-n", workers)
    assert done.outlines[-1] == (
        "Tests: 2 passed, 2 skipped: 1 for want of rsync, 1 for reasons above. "
        "To run them, as root: make test SYSTEM_PACKAGES=1"
    )
    done.stdout.fnmatch_lines(["*NOT TESTED FOR WANT OF rsync*"])
    monkeypatch.setenv("FLEETCTL_REQUIRE_LIVE", "1")
    done = pytester.runpytest_subprocess("-n", workers)
    done.assert_outcomes(passed=2, skipped=1, errors=1)
    done.stdout.fnmatch_lines(["*not installed: rsync; run `make programs SYSTEM_PACKAGES=1`"])


def test_the_last_line_of_a_whole_run_advises_nothing() -> None:
    assert needs.last_line({"passed": 3}, Counter()) == "Tests: 3 passed, none skipped."
    line = needs.last_line({"passed": 3, "failed": 1, "skipped": 2}, Counter())
    assert line == "Tests: 1 failed, 3 passed, 2 skipped: 2 for reasons above."
