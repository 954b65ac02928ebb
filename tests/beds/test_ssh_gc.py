"""Copies on boxes that nothing needs are named by `gc`, and then deleted."""

import json

import pytest

from tests.beds.boxes import BoxBed
from tests.beds.checkouts import OTHERS, converges
from tests.beds.engine_bench import STORE_THERE, UNITS
from tests.fleetctl.project_on_disk import Project

pytestmark = pytest.mark.boxes
UNUSED, PART, OF_OTHERS = "a" * 64, "b" * 64 + ".part", "c" * 64
TWO_DAYS_LATER = (
    'printf \'#!/bin/sh\\nexec /bin/date -d "2 days" "$@"\\n\' >/usr/local/bin/date; '
    "chmod 755 /usr/local/bin/date"
)


def decided(project: Project, *arguments: str) -> dict[str, tuple[bool, str]]:
    """Return whether each copy on a box stays, and why."""
    done = project.run("gc", "--format", "json", *arguments)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["host_copies"]
    assert all(row["bytes"] >= 0 for row in rows)
    return {row["name"]: (row["needed"], row["why"]) for row in rows}


def test_gc_deletes_copies_on_a_box_that_nothing_names(bed: BoxBed, checkout: Project) -> None:
    converges(checkout)
    made = f"mkdir {UNUSED} {PART} {OF_OTHERS} notes"
    there = f"cd {STORE_THERE}; {made}; echo x >{UNUSED}/x; chmod -R a-w {UNUSED}"
    unit = f"{UNITS}/{OTHERS.format(box='box1')}"
    bed.do("ssh", "box1", f"{there}; echo '# {STORE_THERE}/{OF_OTHERS}' >>{unit}")
    before = set(bed.do("ssh", "box1", f"ls {STORE_THERE}").split())
    young = decided(checkout, "--dry-run")
    assert young[f"box1:{UNUSED}"] == (True, "it was brought less than a day ago")
    assert all(needed for needed, _ in young.values())
    bed.do("root", "box1", TWO_DAYS_LATER)
    try:
        found = decided(checkout, "--dry-run")
        due = {f"box1:{UNUSED}", f"box1:{PART}"}
        assert {name for name, (needed, _) in found.items() if not needed} == due
        assert found[f"box1:{OF_OTHERS}"][0]
        assert "box1:notes" not in found
        assert set(bed.do("ssh", "box1", f"ls {STORE_THERE}").split()) == before
        assert decided(checkout, "--yes").keys() == found.keys()
        after = set(bed.do("ssh", "box1", f"ls {STORE_THERE}").split())
        assert after == before - {UNUSED, PART}
    finally:
        bed.do("root", "box1", "rm /usr/local/bin/date")
    assert checkout.run("drift").returncode == 0
