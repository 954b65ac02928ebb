"""gc on the fake server: nothing that a server could still read is ever deleted."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.config.files.lockfile import parse_lock
from fleet.evals.run import EvalRun, Purpose, Sample
from fleet.spec import EvalSpec
from runtime.evals.record import eval_event
from runtime.evals.store import EvalStore
from runtime.ledger import open_ledger
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

OLDEST, SECOND = "acme-support-tiny-v1.0.0", "acme-support-tiny-v1.1.0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied, with four versions before the one that is declared."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    source = made.root / "models/adapters/acme"
    for minor in range(5):
        done = call(
            made,
            "adapter", "add", str(source / "support-v2.2.0"),
            "--as", f"acme-support-tiny-v1.{minor}.0",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert call(made, "gateway", "start").returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    yield made
    made.clean_up()


def collected(project: Project, *arguments: str) -> dict[str, Any]:
    done = call(project, "gc", "--format", "json", *arguments)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    return {
        each["name"]: each
        for each in (*document["versions"], *document["copies"], *document["evaluations"])
    }


def test_a_dry_run_names_what_would_go_and_deletes_nothing(project: Project) -> None:
    before = sorted(project.root.rglob("*.safetensors"))
    found = collected(project, "--dry-run")
    assert sorted(name for name, each in found.items() if not each["needed"]) == [OLDEST, SECOND]
    assert found[OLDEST]["bytes"] > 100_000
    assert found["birch-units-tiny-v1.0.0"]["why"] == "the route of birch-units names it"
    assert sorted(project.root.rglob("*.safetensors")) == before


def test_a_server_that_does_not_answer_stops_it(project: Project) -> None:
    (record,) = (project.root / ".fleetctl/servers").glob("*/launch.json")
    text = record.read_text(encoding="utf-8")
    elsewhere = json.loads(text) | {"host": "attic"}
    record.write_text(json.dumps(elsewhere), encoding="utf-8")
    try:
        done = call(project, "gc", "--yes")
    finally:
        record.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert "host attic, which is no longer declared" in done.stderr
    assert (project.root / "models/adapters/acme/support-v1.0.0").is_dir()


def test_without_anybody_to_ask_nothing_is_deleted(project: Project) -> None:
    assert call(project, "gc").returncode == 64


def test_what_nobody_needs_goes_with_its_line_in_the_lock(project: Project) -> None:
    store = project.root / ".fleetctl/store"
    stray = store / ("0" * 64)
    shutil.copytree(next(store.iterdir()), stray)
    aside = project.root / "models/adapters/acme/.removed-x"
    aside.mkdir()
    listed = {each.name for each in store.iterdir()} - {stray.name}
    done = call(project, "gc", "--yes")
    assert done.returncode == 0, done.stderr
    assert "Deleted 2 versions and 1 served copy" in done.stdout
    assert "fleet.lock has changed" in done.stderr
    assert {each.name for each in store.iterdir()} == listed
    folders = {each.name for each in (project.root / "models/adapters/acme").iterdir()}
    assert folders >= {"support-v1.2.0", "support-v1.3.0", "support-v1.4.0", "support-v2.1.0"}
    assert folders.isdisjoint({"support-v1.0.0", "support-v1.1.0", ".removed-x"})
    lock = parse_lock((project.root / "fleet.lock").read_text(encoding="utf-8"))
    assert {OLDEST, SECOND}.isdisjoint(lock.adapters)
    assert call(project, "plan", "--detailed-exitcode").returncode == 0
    assert call(project, "drift").returncode == 0
    again = call(project, "gc", "--yes")
    assert (again.returncode, again.stdout) == (0, "")
    assert "Nothing to delete." in again.stderr


def test_a_line_whose_folder_a_killed_run_had_taken_goes_too(project: Project) -> None:
    adapters = project.root / "models/adapters/acme"
    more = (str(adapters / "support-v2.2.0"), "--as", "acme-support-tiny-v1.5.0")
    assert call(project, "adapter", "add", *more).returncode == 0
    shutil.rmtree(adapters / "support-v1.2.0")
    assert call(project, "gc", "--yes").returncode == 0
    lock = parse_lock((project.root / "fleet.lock").read_text(encoding="utf-8"))
    assert "acme-support-tiny-v1.2.0" not in lock.adapters


def test_old_answers_go_and_what_is_compared_or_judged_by_them_stays(project: Project) -> None:
    state = project.root / ".fleetctl"
    store, old = EvalStore(state / "evals"), datetime.now(UTC) - timedelta(days=91)
    ledger = open_ledger(state, run="r", by="tester", clock=lambda: old)
    runs: tuple[tuple[str, Purpose], ...] = (
        ("first", "anchor"), ("second", "smoke"), ("third", "smoke"),
    )  # fmt: skip
    for name, purpose in runs:
        made = EvalRun(
            id=name, alias="birch-units", adapter="birch-units-tiny-v1.0.0", digest="d",
            purpose=purpose, golden="g", golden_digest="g", items=("a",), must_pass=(),
            spec=EvalSpec(), engine_version="native 1", started=old, finished=old,
            samples=(Sample("a", scores={"accuracy": 1.0}, model="birch-units-tiny-v1.0.0"),),
        )  # fmt: skip
        store.save(made)
        ledger.append([eval_event(made, store)])
    store.path("stray").write_bytes(store.path("third").read_bytes())
    found = collected(project, "--dry-run")
    assert {name for name, each in found.items() if not each["needed"]} == {"second", "third"}
    assert found["first"]["why"] == "what birch-units-tiny-v1.0.0 answered after its training"
    assert found["stray"]["why"] == "no entry names it yet"
    done = call(project, "gc", "--yes")
    assert "Deleted the answers of 2 evaluations" in done.stdout, done.stderr
    assert {each.stem for each in store.folder.glob("*.jsonl")} == {"first", "stray"}
    assert call(project, "evidence", "verify").returncode == 0
    assert "the answers of 2 evaluations" in call(project, "history").stdout
    assert call(project, "eval", "show", "second").returncode == 1
    assert list((store.folder / "cache").iterdir()) == [], "it named the third"
