"""The main paths that `make test` plays on real parts: none is moved away or left to a fake.

`MAIN_PATHS` is the list. A file may be renamed here; a path leaves it only where another file plays
the same path on the same part. Stories that take minutes are in `make test-long`; CI runs it too.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
MAIN_PATHS: Final = {
    "live": {
        "start, load, unload, observe, stop a server": "runtime/engines/test_conformance.py",
        "a request through the gateway": "runtime/gateway/test_on_vllm.py",
        "fields of requests": "runtime/gateway/test_fields_on_vllm.py",
        "the SDKs of clients": "runtime/gateway/test_sdks_on_vllm.py",
        "errors of a server": "runtime/gateway/test_server_errors.py",
        "a request through Envoy": "runtime/gateway/test_envoy_on_vllm.py",
        "an adapter that the preflight lets through": "runtime/library/test_on_vllm.py",
        "usage as the server counts it": "runtime/usage/test_sync.py",
    },
    "browser": {
        "the dashboard": "fleetctl/watch/test_dashboard_browser.py",
        "the page of a plan": "stories/test_plan_page.py",
    },
    "postgresql": {
        "colleagues on one shared home": "fleetctl/change/test_three_checkouts.py",
        "the ledger in a database": "runtime/ledger/test_postgres.py",
        "a connection that is cut": "runtime/ledger/test_cut_connections.py",
        "a home that fails": "fleetctl/state/test_home_faults.py",
    },
    "haproxy": {"gateways behind a balancer": "fleetctl/gateways/test_haproxy.py"},
    "prometheus": {"rules and dashboards": "plans/compile/test_prometheus.py"},
    "sources": {"a version from a registry": "runtime/sources/test_one_digest.py"},
}
"""By the mark of the real part: the path, and the file under `tests` that plays it."""
LEFT_OUT: Final = "not long and not proof and not boxes"
"""The marks that `make test` leaves out."""


def test_the_marks_are_those_that_make_test_leaves_out() -> None:
    assert f"-m '{LEFT_OUT}'" in (ROOT / "Makefile").read_text("utf-8")


@pytest.mark.parametrize("mark", MAIN_PATHS)
def test_each_main_path_is_played_on_its_real_part(mark: str) -> None:
    """The marks of a test are known once it is collected; a file alone does not tell them."""
    files = [f"tests/{name}" for name in MAIN_PATHS[mark].values()]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0"]
    collected = subprocess.run(
        [*command, "-m", f"{mark} and {LEFT_OUT}", *files],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert {name for name in files if f"{name}::" in collected} == set(files)
