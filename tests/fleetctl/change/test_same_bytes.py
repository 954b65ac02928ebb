"""The bytes of another client, or old bytes as a new version, are served only where declared."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.errors import ConfigError, Diagnostic
from runtime.project.load import load_project
from tests.broken.project import TINY, write
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

Event = Callable[[Project], None]
A, B, C = "a" * 64, "b" * 64, "c" * 64


def problems(
    root: Path, pinned: dict[str, str], declared: dict[str, str], more: str = ""
) -> list[Diagnostic]:
    """Return errors and warnings about bytes; `declared`: version by alias, with further keys."""
    entry = {"rank": 8, "bytes": 10, "modules": ["q_proj"], "base": "tiny"}
    adapters = {name: {**entry, "digest": digest} for name, digest in pinned.items()}
    clients: dict[str, dict[str, str]] = {}
    for alias, keys in declared.items():
        client, _, task = alias.partition("-")
        clients.setdefault(client, {})[task] = keys
    text = "fleet: demo\nbases: {tiny: {model: models/base/tiny}}\nclients:\n"
    for client, tasks in clients.items():
        text += f"  {client}:\n    adapters:\n"
        for task, keys in tasks.items():
            text += f"      {task}: {{base: tiny, {keys}}}\n"
    lock = {"bases": {"tiny": TINY}, "adapters": adapters}
    write(root, {"fleet.yaml": text + more, "fleet.lock": json.dumps(lock)})
    try:
        found = load_project(root, None, {}).warnings
    except ConfigError as error:
        found = error.diagnostics
    return [each for each in found if each.code in {"FC1264", "FC1265", "FC1266"}]


def name(alias: str, version: str) -> str:
    return f"{alias}-tiny-v{version}"


CURRENT = 'version: "1.0.0"'


@pytest.mark.parametrize(
    ("pinned", "declared", "codes"),
    [
        # different bytes
        ({"acme-a 1.0.0": A, "birch-a 1.0.0": B}, {"acme-a": CURRENT, "birch-a": CURRENT}, []),
        # one problem for a pair
        ({"acme-a 1.0.0": A, "birch-a 1.0.0": A}, {"acme-a": CURRENT, "birch-a": CURRENT},
         ["FC1264"]),
        # said at either of the two
        ({"acme-a 1.0.0": A, "birch-a 1.0.0": A},
         {"acme-a": CURRENT, "birch-a": f"{CURRENT}, same_as: acme-a-tiny-v1.0.0"}, []),
        ({"acme-a 1.0.0": A, "birch-a 1.0.0": A},
         {"acme-a": f"{CURRENT}, same_as: birch-a-tiny-v1.0.0", "birch-a": CURRENT}, []),
        # three clients, of which one does not say so: the pair of two that do not is one problem
        ({"acme-a 1.0.0": A, "birch-a 1.0.0": A, "delta-a 1.0.0": A},
         {"acme-a": CURRENT, "birch-a": f"{CURRENT}, same_as: acme-a-tiny-v1.0.0",
          "delta-a": CURRENT}, ["FC1264"]),
        # an earlier version of another client, and a version of a client that has gone
        ({"acme-a 0.9.0": A, "acme-a 1.0.0": B, "birch-a 1.0.0": A},
         {"acme-a": CURRENT, "birch-a": CURRENT}, ["FC1264"]),
        ({"gone-a 1.0.0": A, "birch-a 1.0.0": A}, {"birch-a": CURRENT}, ["FC1264"]),
        # another task of the same client
        ({"acme-a 1.0.0": A, "acme-b 1.0.0": A}, {"acme-a": CURRENT, "acme-b": CURRENT}, []),
        # a new version that is an old one; a rollback to the old one is none
        ({"acme-a 1.0.0": A, "acme-a 1.1.0": A}, {"acme-a": 'version: "1.1.0"'}, ["FC1265"]),
        ({"acme-a 1.0.0": A, "acme-a 1.1.0": A}, {"acme-a": CURRENT}, []),
        ({"acme-a 1.0.0": A, "acme-a 1.1.0": A},
         {"acme-a": 'version: "1.1.0", same_as: acme-a-tiny-v1.0.0'}, []),
        # a renamed alias has its bytes under both names, and a new version of it is a new version
        ({"acme-a 1.0.0": A, "acme-new 1.0.0": A}, {"acme-new": f"{CURRENT}, formerly: acme-a"},
         []),
        ({"acme-a 1.0.0": A, "birch-a 1.0.0": A}, {"birch-a": f"{CURRENT}, formerly: acme-a"}, []),
        ({"acme-a 1.0.0": A, "birch-a 1.1.0": A},
         {"birch-a": 'version: "1.1.0", formerly: acme-a'}, ["FC1265"]),
    ],
)  # fmt: skip
def test_bytes_are_refused_unless_declared(
    tmp_path: Path, pinned: dict[str, str], declared: dict[str, str], codes: list[str]
) -> None:
    lock = {name(*key.split()): digest for key, digest in pinned.items()}
    found = problems(tmp_path, lock, declared)
    assert [each.code for each in found] == codes
    for problem in found:
        assert problem.severity == "error"
        assert problem.place is not None
        assert "`same_as: " in problem.hint


def test_following_the_hint_settles_it(tmp_path: Path) -> None:
    lock = {name("acme-a", "1.0.0"): A, name("birch-a", "1.0.0"): A}
    (found,) = problems(tmp_path, lock, {"acme-a": CURRENT, "birch-a": CURRENT})
    said = found.hint.partition("`same_as: ")[2].partition("`")[0]
    assert "the other client's version at" in dict(found.also)
    both = {"acme-a": CURRENT, "birch-a": f"{CURRENT}, same_as: {said}"}
    assert problems(tmp_path, lock, both) == []


def test_a_copy_that_is_not_deployed_yet_is_a_warning(tmp_path: Path) -> None:
    lock = {name("acme-a", "1.0.0"): A, name("birch-a", "1.0.0"): B, name("birch-a", "1.1.0"): A}
    (found,) = problems(tmp_path, lock, {"acme-a": CURRENT, "birch-a": CURRENT})
    assert (found.code, found.severity) == ("FC1264", "warning")


@pytest.mark.parametrize(
    ("said", "code", "hint"),
    [
        ("birch-a-tiny-v1.0.1", "FC1266", "did you mean `birch-a-tiny-v1.0.0`?"),
        ("nothing", "FC1266", "The same bytes: birch-a-tiny-v1.0.0."),
        ("acme-a-tiny-v1.0.0", "FC1266", "did you mean `birch-a-tiny-v1.0.0`?"),
        ("delta-z-tiny-v3.0.0", "FC1264", "`same_as: acme-a-tiny-v1.0.0`"),
    ],
)
def test_what_same_as_names_must_have_these_bytes(
    tmp_path: Path, said: str, code: str, hint: str
) -> None:
    lock = {name("acme-a", "1.0.0"): A, name("birch-a", "1.0.0"): A, name("delta-z", "3.0.0"): C}
    declared = {"acme-a": f"{CURRENT}, same_as: {said}", "birch-a": CURRENT}
    (found, *_) = [each for each in problems(tmp_path, lock, declared) if each.code == code]
    assert found.severity == "error"
    assert hint in found.hint


def test_same_as_of_bytes_that_no_other_version_has_is_a_warning(tmp_path: Path) -> None:
    lock, said = {name("acme-a", "1.0.0"): A}, "same_as: birch-a-tiny-v1.0.0"
    (found,) = problems(tmp_path, lock, {"acme-a": f"{CURRENT}, {said}"})
    assert (found.code, found.severity) == ("FC1266", "warning")


def test_same_as_that_no_longer_holds_after_a_retraining_is_a_warning(tmp_path: Path) -> None:
    lock = {name("acme-a", "1.0.0"): A, name("acme-a", "1.2.0"): C}
    declared = {"acme-a": 'version: "1.2.0", same_as: acme-a-tiny-v1.0.0'}
    (found,) = problems(tmp_path, lock, declared)
    assert (found.code, found.severity, found.hint) == ("FC1266", "warning", "Delete it.")


def test_a_wrong_folder_at_adapter_add_is_told_and_never_planned(tmp_path: Path) -> None:
    project = Project.copy(tmp_path / "project", None)
    folder = project.root / "models/adapters/acme/support-v2.1.0"
    added = call(project, "adapter", "add", str(folder), "--as", "birch-units-tiny-v1.1.0")
    assert added.returncode == 0
    assert "FC3034" in added.stderr
    assert call(project, "validate").returncode == 0  # what is not declared serves no client
    path = project.root / "clients/birch.yaml"
    text = path.read_text(encoding="utf-8")
    declared = text.replace('version: "1.0.0"', 'version: "1.1.0"')
    path.write_text(declared, encoding="utf-8")
    for command in ("validate", "plan"):
        refused = call(project, command)
        assert refused.returncode == 1
        assert "FC1264" in refused.stderr
        assert "clients/birch.yaml:" in refused.stderr
    said = 'version: "1.1.0"\n        same_as: acme-support-tiny-v2.1.0\n'
    path.write_text(declared.replace('version: "1.1.0"\n', said), encoding="utf-8")
    assert call(project, "validate").returncode == 0


SUPPORT, UNITS = "acme-support-tiny-v2.1.0", "birch-units-tiny-v1.1.0"
ACME, BIRCH = "clients/acme.yaml", "clients/birch.yaml"


def edit(project: Project, file: str, old: str, new: str) -> None:
    path = project.root / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def add(project: Project, source: str, version: str) -> str:
    done = call(project, "adapter", "add", str(project.root / source), "--as", version)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(params=["acme", "birch"])
def shared(tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    """Two clients that have begun on the same bytes, as the file of one of them says."""
    project = Project.copy(tmp_path / "project", None)
    edit(project, BIRCH, 'version: "1.0.0"', 'version: "1.1.0"')
    if request.param == "birch":
        edit(project, BIRCH, '"1.1.0"', f'"1.1.0"\n        same_as: {SUPPORT}')
    else:
        edit(project, ACME, '"2.1.0"', f'"2.1.0"\n        same_as: {UNITS}')
    said = add(project, "models/adapters/acme/support-v2.1.0", UNITS)
    assert ("FC3034" in said) == (request.param == "acme")  # said of the version that is added
    return project


def moved_on(project: Project) -> None:
    edit(project, ACME, '"2.1.0"', '"2.2.0"')
    add(project, "models/adapters/acme/support-v2.2.0", "acme-support-tiny-v2.2.0")


def without(project: Project) -> None:
    for file, other in ((ACME, UNITS), (BIRCH, SUPPORT)):
        path = project.root / file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(f"\n        same_as: {other}", ""), encoding="utf-8")


def left(project: Project) -> None:
    (project.root / ACME).unlink()


def collected(project: Project) -> None:
    """Take the versions of the first client out of the lock too, as `gc` does."""
    left(project)
    path = project.root / "fleet.lock"
    lock = json.loads(path.read_text("utf-8"))
    lock["adapters"] = {n: e for n, e in lock["adapters"].items() if not n.startswith("acme-")}
    path.write_text(json.dumps(lock), encoding="utf-8")


@pytest.mark.parametrize(
    "events",
    [(), (moved_on,), (without,), (moved_on, without), (without, moved_on), (left,),
     (without, left), (collected,), (moved_on, collected)],
    ids=lambda events: "-".join(event.__name__ for event in events) or "kept",
)  # fmt: skip
def test_once_the_same_bytes_are_history(shared: Project, events: tuple[Event, ...]) -> None:
    """FC1264 at the untouched file after `moved_on` or `without`, FC1266 after `collected`."""
    for event in events:
        event(shared)
    for command in ("validate", "plan"):
        done = call(shared, command)
        assert done.returncode == 0, done.stderr


def test_the_record_of_one_client_lets_no_third_one_have_the_bytes(shared: Project) -> None:
    without(shared)
    delta = (shared.root / "clients/delta.yaml").read_text("utf-8")
    version = delta.partition('version: "')[2].partition('"')[0]
    task = delta.partition("adapters:\n      ")[2].partition(":")[0]
    add(shared, "models/adapters/acme/support-v2.1.0", f"delta-{task}-tiny-v9.0.0")
    edit(shared, "clients/delta.yaml", f'version: "{version}"', 'version: "9.0.0"')
    for leave in (lambda _: None, collected):
        leave(shared)
        refused = call(shared, "plan")
        assert refused.returncode == 1
        assert "FC1264" in refused.stderr
        assert "clients/delta.yaml:" in refused.stderr
