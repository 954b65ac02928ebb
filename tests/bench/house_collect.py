"""Has pytest collect the checkout in the current folder; prints how many tests, and by marker.

`python -P PATH/house_collect.py`, as JSON; a process of its own for `tests.bench.house`, which may
come from another checkout.
"""

import io
import json
import sys
from collections import Counter
from contextlib import redirect_stdout

import pytest


class Collected:
    """A plugin that counts."""

    def __init__(self) -> None:
        self.markers: list[set[str]] = []
        """The names of the markers of each test."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.markers = [{marker.name for marker in test.iter_markers()} for test in session.items]


def main() -> None:
    """Print the counts.

    Raises:
        SystemExit: a file cannot be collected.
    """
    counted = Collected()
    with redirect_stdout(io.StringIO()) as printed:
        code = pytest.main(["--collect-only", "-q"], plugins=[counted])
    if code is not pytest.ExitCode.OK:
        sys.exit(f"pytest does not collect:\n{printed.getvalue()[-2000:]}")
    by_name = Counter(name for names in counted.markers for name in names)
    print(json.dumps({"tests": len(counted.markers), "markers": dict(sorted(by_name.items()))}))


if __name__ == "__main__":
    main()
