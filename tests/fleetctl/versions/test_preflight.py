"""Versions that must not be loaded, pinned by hand: no server gets them. On the fake server."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.config import lock_text, parse_lock
from fleet.names import AdapterName
from runtime.operations.change import apply
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import QUICKSTART, Project, applied
from tests.other_bytes import pinned_by_hand

GOOD, BAD = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.9.0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied."""
    yield from applied(tmp_path_factory.mktemp("fleet"))


def declare(project: Project, client: str, old: str, new: str) -> None:
    path = project.root / "clients" / f"{client}.yaml"
    text = path.read_text(encoding="utf-8")
    assert f'version: "{old}"' in text
    path.write_text(text.replace(f'version: "{old}"', f'version: "{new}"'), encoding="utf-8")


def aliases(project: Project) -> dict[str, str]:
    document = json.loads(call(project, "status", "--format", "json").stdout)
    return {
        each["alias"]: ", ".join(f"{its['version']} {its['percent']}" for its in each["versions"])
        for each in document["aliases"]
    }


def test_a_version_with_nan_reaches_no_server_and_other_clients_go_on(project: Project) -> None:
    digest = pinned_by_hand(project.root, GOOD, BAD, math.nan)
    declare(project, "acme", "2.1.0", "2.9.0")
    declare(project, "corvid", "1.0.0", "1.1.0")
    before = aliases(project)
    validated = call(project, "validate")
    assert validated.returncode == 1
    assert "FC3030" in validated.stderr
    assert "clients/acme.yaml:10:18" in validated.stderr
    planned = call(project, "plan", "--format", "json")
    assert planned.returncode == 0
    assert "Warning: Version must not be loaded [FC3030]" in planned.stderr
    assert "FC3030" not in planned.stdout
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 4, done.stderr
    assert "FC3030" in done.stderr
    assert "NaN" in done.stderr
    after = aliases(project)
    assert after["acme-support"] == before["acme-support"]
    assert after["corvid-dates"] != before["corvid-dates"]
    log = (project.root / ".fleetctl/servers/tiny-laptop-cpu0/log").read_text(errors="replace")
    assert BAD not in log, digest
    assert call(project, "plan", "--detailed-exitcode").returncode == 2
    declare(project, "acme", "2.9.0", "2.1.0")
    assert call(project, "plan", "--detailed-exitcode").returncode == 0


def pin(project: Project, name: str, digest: str) -> None:
    """Write another digest into the lock."""
    path = project.root / "fleet.lock"
    lock = parse_lock(path.read_text(encoding="utf-8"))
    entry = lock.adapters[name].model_copy(update={"digest": digest})
    path.write_text(lock_text(lock.with_adapter(AdapterName.parse(name), entry)), "utf-8")


def test_a_wrong_digest_in_the_lock_takes_nothing_from_the_client(project: Project) -> None:
    good = parse_lock((project.root / "fleet.lock").read_text("utf-8")).adapters[GOOD].digest
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    before = aliases(project)["acme-support"]
    pin(project, GOOD, wrong)
    for words in (("plan",), ("apply", "--auto", "--yes", "--format", "json")):
        done = call(project, *words)
        assert (done.returncode, "FC1281" in done.stderr) == (1, True), done.stderr
    assert aliases(project)["acme-support"] == before
    reconciled = call(project, "reconcile", "--once")
    assert reconciled.returncode == 4
    assert aliases(project)["acme-support"] == before, reconciled.stderr
    pin(project, GOOD, good)
    assert call(project, "drift").returncode == 0
    assert call(project, "plan", "--detailed-exitcode").returncode == 0


def test_versions_beyond_what_plan_reads_are_left_to_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "READ_MOST", 0)
    project = Project.copy(tmp_path / "project", None)
    pinned_by_hand(project.root, GOOD, BAD, math.nan)
    declare(project, "acme", "2.1.0", "2.9.0")
    done = call(project, "validate")
    assert done.returncode == 0, done.stderr
    assert "Note: the weights of 8 versions are checked by apply." in done.stderr
    shutil.rmtree(project.root / "models/adapters")
    done = call(project, "validate")
    assert (done.returncode, "checked by apply" in done.stderr) == (0, False)


def test_validate_makes_no_state_folder(tmp_path: Path) -> None:
    root = tmp_path / "fleet"
    shutil.copytree(QUICKSTART, root, ignore=shutil.ignore_patterns(".fleetctl"))
    project = Project(root, ())
    assert call(project, "validate").returncode == 0
    assert not (root / ".fleetctl").exists()
