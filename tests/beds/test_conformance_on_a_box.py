"""The engine `ssh` keeps the contract of engines on a box, which this test boots and powers off."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beds.boxes import SCRIPT

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def box() -> Iterator[dict[str, str]]:
    """The environment of a bed with a box, which sees the repository and its Python."""
    # Not below /tmp: overlays do not lie on one another.
    folder = tempfile.mkdtemp(prefix="fleetctl-bed-", dir="/var/tmp")
    environment = {**os.environ, "BED": folder, "SHOW": f"{REPOSITORY}:{sys.base_prefix}"}
    try:
        up = subprocess.run(
            [SCRIPT, "up", "1"], env=environment, capture_output=True, text=True, check=False
        )
        if up.returncode:
            pytest.skip((up.stderr or "no box").strip().splitlines()[-1])
        yield environment
    finally:
        subprocess.run([SCRIPT, "down"], env=environment, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
@pytest.mark.needs("debootstrap", "ip", "nft", "root", "rsync", "ssh", "systemd-nspawn")
def test_the_engine_keeps_its_contract_on_a_box(box: dict[str, str]) -> None:
    test = "tests/beds/test_ssh_engine.py"
    done = subprocess.run(
        [SCRIPT, "exec", sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "boxes", test],
        cwd=REPOSITORY,
        env=box,
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-6000:]
    assert " passed, none skipped." in told
