"""A gateway on a box is given its table through a forward, which commands make themselves."""

import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator

import pytest

from tests.beds.boxes import BoxBed
from tests.fleetctl.project_on_disk import Project
from tests.ports import free_port

pytestmark = pytest.mark.boxes
SECRET = "FLEET_OPERATOR=the-operators-own-secret-of-this-fleet"


@pytest.fixture
def fleet(bed: BoxBed, checkout: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A checkout whose gateway was started on box1, from a checkout there."""
    monkeypatch.setenv(*SECRET.split("="))
    file = checkout.root / "fleet.yaml"
    declared = (
        f'main: {{listen: "127.0.0.1:{free_port()}", admin: "http://127.0.0.1:{free_port()}", '
        "host: box1, secret: env:FLEET_OPERATOR}"
    )
    text, found = re.subn(r"main: \{listen: .*\}", declared, file.read_text("utf-8"))
    assert found == 1
    file.write_text(text, "utf-8")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(checkout.root, ".")
    unpack = "rm -rf there && mkdir there && tar -xC there"
    subprocess.run(["ssh", "box1", unpack], input=packed.getvalue(), check=True)
    there = f"cd there && {SECRET} {sys.executable} -m fleetctl gateway"
    bed.do("ssh", "box1", f"{there} start main")
    yield checkout
    bed.do("ssh", "box1", f"{there} stop main; rm -rf there")


def test_a_gateway_of_a_box_serves_what_is_applied_and_rolled_back_here(
    bed: BoxBed, fleet: Project
) -> None:
    revisions = []
    for version in ("2.1.0", "2.2.0"):
        acme = fleet.root / "clients/acme.yaml"
        acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', f'"{version}"'), "utf-8")
        done = fleet.run("apply", "--auto", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        revisions.append(served(bed))
    subprocess.run(["ssh", "-O", "exit", "box1"], check=False)  # with all forwards
    back = fleet.run("rollback", "acme-support", "--reason", "slow")
    assert back.returncode == 0, back.stderr
    revisions.append(served(bed))
    assert revisions == sorted({*revisions})
    bed.do("hole", "box1")
    try:
        away = fleet.run("gateway", "status")
    finally:
        bed.until_mended("box1")
    assert "gateway `main`" in away.stdout + away.stderr


def served(bed: BoxBed) -> int:
    """Return the revision of the table that the gateway wrote down on the box."""
    found = re.search(r'"revision":(\d+)', bed.do("ssh", "box1", "cat there/.fleetctl/routes.json"))
    assert found
    return int(found[1])
