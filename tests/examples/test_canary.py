"""The canary story, shortened; it checks its own steps, and that no request has failed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TOLD = (
    "PASS answers of acme-support-tiny-v2.2.0 at 0 %",
    "Moves on: acme-support: 2.2.0 50 % -> 100 %, 2.1.0 50 % -> 0 %",
    "5 drills of acme-support to acme-support-tiny-v2.1.0 (there and back)",
    "PASS lenient_answers of acme-support-tiny-v2.4.0 at 0 %",
    "FAIL form of acme-support-tiny-v2.4.0 at 50 %",
    "Rolled back: acme-support back on 2.2.0 in",
    "FAIL cut_off of acme-support-tiny-v2.4.0 at 50 %",
    "0 requests failed",
    "verdicts follow from their counts",
)


@pytest.mark.live
@pytest.mark.long
def test_new_versions_live_and_die_on_a_real_vllm(vllm_python: Path) -> None:
    done = subprocess.run(
        [sys.executable, "examples/canary/play.py", "--short"],
        cwd=REPOSITORY,
        env={**os.environ, "FLEETCTL_VLLM_PYTHON": str(vllm_python)},
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-6000:]
    assert [line for line in TOLD if line not in told] == []
