"""The bytes of a version never change under its name: git's history and the ledger know them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.config import LOCK_FILE, lock_text, parse_lock
from fleet.names import AdapterName
from runtime.library.layout import WEIGHTS, folder_digest, version_folder
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import QUICKSTART, Project, applied
from tests.other_bytes import first_value, other

NAME, UNUSED = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.3.0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied."""
    yield from applied(tmp_path_factory.mktemp("fleet"))


@pytest.fixture
def checkout(tmp_path: Path) -> Project:
    """The quickstart fleet as a commit, and a further commit; never applied."""
    root = tmp_path / "checkout"
    shutil.copytree(QUICKSTART, root, ignore=shutil.ignore_patterns(".fleetctl", "training"))
    (root / ".gitignore").write_text("models/\n", "utf-8")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    git(root, "commit", "-qm", "second", "--allow-empty")
    return Project(root, ("--env", "fake"))


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.com")
    subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, check=True)


def redone(root: Path, name: str = NAME, value: float = 0.0625) -> str:
    """Write another value into a version of the library, and its digest into the lock."""
    folder = version_folder(root / "models", AdapterName.parse(name))
    first_value(folder / WEIGHTS, value)
    digest = folder_digest(folder)
    lock = parse_lock((root / LOCK_FILE).read_text("utf-8"))
    entry = lock.adapters[name].model_copy(update={"digest": digest})
    (root / LOCK_FILE).write_text(lock_text(lock.with_adapter(AdapterName.parse(name), entry)))
    return digest


def digest_in(root: Path) -> str:
    return parse_lock((root / LOCK_FILE).read_text("utf-8")).adapters[NAME].digest


def declare(project: Project, client: str, old: str, new: str) -> None:
    path = project.root / "clients" / f"{client}.yaml"
    text = path.read_text(encoding="utf-8")
    assert f'version: "{old}"' in text
    path.write_text(text.replace(f'version: "{old}"', f'version: "{new}"'), encoding="utf-8")


def refused(done: Done) -> bool:
    return done.returncode == 1 and "FC1281" in done.stderr


def test_other_bytes_of_a_version_that_serves_are_refused(project: Project, tmp_path: Path) -> None:
    """Before, the plan was yellow, `apply --auto --yes` exited 0 and replaced them at 100 %."""
    before, file = digest_in(project.root), str(tmp_path / "plan.json")
    declare(project, "corvid", "1.0.0", "1.1.0")
    assert call(project, "plan", "--out", file).returncode == 0
    after = redone(project.root)
    told = call(project, "plan")
    assert refused(told)
    assert "at clients/acme.yaml:10:18" in told.stderr
    assert f"digest {after[:12]}, and the ledger has {before[:12]}" in told.stderr
    assert "    fleetctl adapter add PATH --as acme-support-tiny-v2.1.1" in told.stderr
    assert refused(call(project, "apply", "--auto", "--yes"))
    assert refused(call(project, "apply", file, "--yes"))
    assert "No drift" in call(project, "drift").stdout
    redone(project.root, value=1.0)
    lock = (project.root / LOCK_FILE).read_text("utf-8")
    (project.root / LOCK_FILE).write_text(lock.replace(digest_in(project.root), before), "utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 0


def test_a_round_of_reconcile_leaves_that_client_as_it_is(project: Project) -> None:
    was = digest_in(project.root)
    redone(project.root, value=0.5)
    project.kill_servers()
    done = call(project, "reconcile", "--once")
    lock = (project.root / LOCK_FILE).read_text("utf-8")
    (project.root / LOCK_FILE).write_text(lock.replace(digest_in(project.root), was), "utf-8")
    assert (done.returncode, "FC1281" in done.stderr) == (4, True), done.stderr
    assert "Heals server/tiny-laptop-cpu0" in done.stderr
    assert call(project, "plan", "--detailed-exitcode").returncode == 0


@pytest.mark.parametrize("committed", [False, True])
def test_validate_knows_the_bytes_of_earlier_commits(checkout: Project, *, committed: bool) -> None:
    """Before, exit 0 without a word."""
    assert call(checkout, "validate").returncode == 0
    redone(checkout.root)
    if committed:
        git(checkout.root, "commit", "-qam", "other bytes")
        git(checkout.root, "commit", "-qm", "later", "--allow-empty")
    told = call(checkout, "validate")
    assert refused(told)
    assert "at clients/acme.yaml:10:18" in told.stderr
    assert " of the lock has " in " ".join(told.stderr.split())
    git(checkout.root, "checkout", "HEAD~2" if committed else "HEAD", "--", LOCK_FILE)
    assert "FC1281" not in call(checkout, "validate").stderr


def test_a_version_that_left_the_lock_does_not_come_back_with_other_bytes(
    checkout: Project, tmp_path: Path
) -> None:
    folder = version_folder(checkout.root / "models", AdapterName.parse(UNUSED))
    taken = checkout.take_out(UNUSED, str(folder.relative_to(checkout.root)), tmp_path / "taken")
    git(checkout.root, "commit", "-qam", "without it")
    again = str(other(taken, tmp_path / "again"))
    told = call(checkout, "adapter", "add", again, "--as", UNUSED)
    assert (told.returncode, "FC3011" in told.stderr) == (1, True), told.stderr
    assert "of fleet.lock pins digest" in " ".join(told.stderr.split())
    assert call(checkout, "adapter", "add", str(taken), "--as", UNUSED).returncode == 0


def test_what_is_not_in_a_shallow_clone_is_not_known(checkout: Project, tmp_path: Path) -> None:
    redone(checkout.root)
    git(checkout.root, "commit", "-qam", "other bytes")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", checkout.root.as_uri(), str(shallow))
    shutil.copytree(checkout.root / "models", shallow / "models")
    assert refused(call(checkout, "validate"))
    done = call(Project(shallow, checkout.options), "validate")
    assert done.returncode == 0, done.stderr
