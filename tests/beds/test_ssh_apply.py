"""Applies that something happens to: sshd ends, packets are lost, another operator applies."""

import subprocess

import pytest

from tests.beds.boxes import BoxBed
from tests.beds.checkouts import HOST, applying, converges, no_changes, second, servers_of
from tests.fleetctl.project_on_disk import Project

pytestmark = pytest.mark.boxes
UNIT = "fleetctl-tiny-box1-cpu0.service"
BEGUN = f"until systemctl --user is-active --quiet {UNIT}; do sleep 0.1; done"
NO_SSHD = "systemctl stop ssh && pkill -u fleetctl -x sshd-session; ! ss -Hltn | grep -q ':22 '"
FAULTS = {
    "sshd": (("root", "box1", NO_SSHD), ("root", "box1", "systemctl start ssh")),
    "hole": (("hole", "box1"), ("mend", "box1")),
}


def ended(running: "subprocess.Popen[str]") -> str:
    """Return what a command printed, once it has ended."""
    out, _ = running.communicate(timeout=300)
    return out


@pytest.mark.parametrize("fault", FAULTS)
def test_a_box_that_is_lost_in_an_apply_is_looked_at_and_joined_by_the_next(
    bed: BoxBed, checkout: Project, fault: str
) -> None:
    happens, is_mended = FAULTS[fault]
    bed.do("ssh", "box1", "touch hold")
    try:
        with applying(checkout) as running:
            bed.do("ssh", "box1", f"timeout 120 sh -c '{BEGUN}'")
            bed.do("root", "box1", "true")  # a connection that stays
            bed.do(*happens)
            told = ended(running)
        assert running.returncode == 4, told
        assert "[FC4090]" in told or "[FC4094]" in told, told
    finally:
        bed.do(*is_mended)
    begun = servers_of(bed)[UNIT]
    bed.do("ssh", "box1", "rm hold")
    converges(checkout)
    assert servers_of(bed)[UNIT] == begun
    before = servers_of(bed)
    bed.do("root", "box1", "true")
    bed.do(*happens)
    try:
        shown = checkout.run("plan", "--detailed-exitcode")
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "is not reached: " in shown.stdout + shown.stderr
        assert checkout.run("apply", "--auto", "--yes").returncode == 0
    finally:
        bed.do(*is_mended)
    assert no_changes(checkout)
    assert servers_of(bed) == before


def test_a_box_that_leaves_the_declarations_moves_its_versions_and_stops_its_server(
    bed: BoxBed, checkout: Project
) -> None:
    converges(checkout)
    before = servers_of(bed)
    assert [*before] == [UNIT, UNIT.replace("box1", "box2")]
    file = checkout.root / "fleet.yaml"
    text = file.read_text(encoding="utf-8").replace(", replicas: 2, spread: host", "")
    file.write_text(text.replace(HOST.format(name="box2"), ""), encoding="utf-8")
    bed.do("cut", "box2")
    try:
        shown = checkout.run("plan").stdout
        assert "`box2` is no longer declared, and the server may still run there." in shown
        assert checkout.run("apply", "--auto", "--yes").returncode == 0
    finally:
        bed.do("mend", "box2")
    assert servers_of(bed) == before
    converges(checkout)
    assert servers_of(bed) == {UNIT: before[UNIT]}


def test_two_checkouts_apply_at_once_and_no_server_is_there_twice(
    bed: BoxBed, checkout: Project
) -> None:
    converges(checkout)  # draws the fleet's id, which both know from here on
    other = second(checkout)
    checkout.run("server", "stop", "--all")
    with applying(checkout) as one, applying(other) as two:
        for running in (one, two):
            told = ended(running)
            assert running.returncode == 0 or "[FC4102]" in told, told
    for project in (checkout, other):
        converges(project)
    before = servers_of(bed)
    assert [*before] == [UNIT, UNIT.replace("box1", "box2")]
    assert no_changes(checkout)
    after_a_restart = bed.do("ssh", "box1", "cat .local/share/fleetctl/servers/*/adapters.json")
    for version in ("acme-support-tiny-v2.1.0", "corvid-dates-tiny-v1.0.0"):
        assert version in after_a_restart
    assert servers_of(bed) == before


def test_of_two_applies_in_a_folder_one_is_refused(bed: BoxBed, checkout: Project) -> None:
    bed.do("ssh", "box1", "touch hold")
    with applying(checkout) as running:
        bed.do("ssh", "box1", f"timeout 120 sh -c '{BEGUN}'")
        refused = checkout.run("apply", "--auto", "--yes")
        assert (refused.returncode, "[FC5104]" in refused.stderr) == (5, True)
        bed.do("ssh", "box1", "rm hold")
        told = ended(running)
    assert running.returncode == 0, told
    assert no_changes(checkout)
