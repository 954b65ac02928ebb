"""Commands on a fleet whose host is a node of Ray: a version is fetched, copies are deleted."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.library.layout import SERVED_FILES
from tests.beds.box_sources import NAME, moved_away
from tests.beds.ray_bench import fake_python, ray_source
from tests.beds.rays import HEAD, RayBed
from tests.fleetctl.project_on_disk import Project

pytestmark = [pytest.mark.ray, pytest.mark.proof]
HOST = """  node1:
    engine: ray
    cluster: {cluster}
    token: env:RAY_TOKEN
    node: {address}
    python: {python}
    store: {store}
    fetch: true
    devices:
      cpu0: {{kind: cpu, memory: 6GiB, price_per_hour: 0}}
"""
UNUSED, PART, OF_OTHERS = "a" * 64, "b" * 64 + ".part", "c" * 64
TWO_DAYS_LATER = '#!/bin/sh\nexec /bin/date -d "2 days" "$@"\n'


@pytest.fixture
def project(ray_bed: RayBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project whose only host is a node that fetches; it has applied nothing."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_TOKEN", ray_bed.token)
    made = Project(Project.copy(tmp_path / "project", None).root, ())
    store = tmp_path / "shared"
    store.mkdir()
    host = HOST.format(
        cluster=ray_bed.cluster, address=ray_bed.address(1),
        python=fake_python(tmp_path / "fake"), store=store,
    )  # fmt: skip
    file = made.root / "fleet.yaml"
    text = file.read_text("utf-8")
    begin, end = text.index("  laptop:"), text.index("\ngateways:")
    file.write_text(text[:begin] + host + text[end:], "utf-8")
    succeeds(made, "trust", "add", f"http://{ray_bed.address(1)}:8100", str(store))
    yield made
    succeeds(made, "server", "stop", "--all")


def succeeds(project: Project, *words: str) -> str:
    done = project.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def decided(project: Project, *words: str) -> dict[str, tuple[bool, str]]:
    """Return whether each copy in the shared folder stays, and why."""
    rows = json.loads(succeeds(project, "gc", "--format", "json", *words))["host_copies"]
    return {row["name"].removeprefix("node1:"): (row["needed"], row["why"]) for row in rows}


def test_apply_lets_a_node_fetch_and_gc_deletes_what_no_server_names(
    project: Project, ray_bed: RayBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, store = moved_away(project, tmp_path), tmp_path / "shared"
    with ray_source(ray_bed, kept) as source:
        succeeds(project, "adapter", "add", f"{source.url}/files/", "--as", NAME)
        succeeds(project, "trust", "add", source.url)
        source.sent_to.clear()
        succeeds(project, "apply", "--auto", "--yes")
        size = sum((kept / name).stat().st_size for name in SERVED_FILES)
        assert source.sent_to[ray_bed.address(1)] == size
        assert source.sent_to[HEAD] == len(SERVED_FILES)  # a byte of each file
    assert project.run("drift").returncode == 0
    lock = json.loads((project.root / "fleet.lock").read_text("utf-8"))
    assert (store / lock["adapters"][NAME]["digest"]).is_dir()

    for name in (UNUSED, PART, OF_OTHERS, "notes"):
        (store / name).mkdir()
    other = store / "servers" / "fleetctl-others" / "tiny"
    other.mkdir(parents=True)
    (other / "adapters.json").write_text(f'"{store}/{OF_OTHERS}"', "utf-8")
    young = decided(project, "--dry-run")
    assert young[UNUSED] == (True, "it was brought less than a day ago")
    assert all(needed for needed, _ in young.values())
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "date").write_text(TWO_DAYS_LATER, "utf-8")
    (programs / "date").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    before = {path.name for path in store.iterdir()}
    found = decided(project, "--dry-run")
    assert {name for name, (needed, _) in found.items() if not needed} == {UNUSED, PART}
    assert found[OF_OTHERS] == (
        True, "a unit, a record, a file of adapters or a process there names it",
    )  # fmt: skip
    assert {path.name for path in store.iterdir()} == before
    decided(project, "--yes")
    assert {path.name for path in store.iterdir()} == before - {UNUSED, PART}
    assert project.run("drift").returncode == 0
