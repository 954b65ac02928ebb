"""A host, a base or a client that is renamed in the files (`formerly`) moves nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import ConfigError
from fleet.spec import FleetSpec
from runtime.project.load import load_project
from tests.broken.project import TINY, write
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied

RENAMES = (
    ("fleet.yaml", "  tiny:\n", "  small:\n    formerly: tiny\n"),
    ("fleet.yaml", "  laptop:\n", "  desk:\n    formerly: laptop\n"),
    ("env/fake.yaml", "  laptop: {", "  desk: {"),
    ("clients/acme.yaml", "  acme:\n", "  nova:\n    formerly: acme\n"),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied; then a host, a base and a client get other names."""
    for made in applied(tmp_path_factory.mktemp("renamed")):
        for file in (made.root / "clients").glob("*.yaml"):
            text = file.read_text("utf-8").replace("base: tiny", "base: small")
            file.write_text(text, "utf-8")
        for name, before, after in RENAMES:
            text = (made.root / name).read_text("utf-8")
            assert before in text
            (made.root / name).write_text(text.replace(before, after), "utf-8")
        yield made


def test_a_rename_is_planned_as_a_rename_and_moves_nothing(project: Project) -> None:
    servers = project.server_processes()
    plan = json.loads(call(project, "plan", "--format", "json").stdout)["decisions"]
    assert (plan["changes"], plan["steps"]) == ([], [])
    paths = {setting["path"]: setting["after"] for setting in plan["settings"]}
    called = {"bases.tiny": "small", "clients.acme": "nova", "hosts.laptop": "desk"}
    assert paths == {f"{path}.called": name for path, name in called.items()}
    text = call(project, "plan").stdout
    assert "~ renamed, nothing moves: client `acme` is now called `nova`" in text
    assert "~ renamed, nothing moves: host `laptop` is now called `desk`" in text

    assert call(project, "drift").returncode == 0
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    assert project.server_processes() == servers
    assert call(project, "plan").stdout.startswith("No changes.")
    assert "renamed" not in call(project, "plan").stdout


def test_a_renamed_client_keeps_its_alias_and_its_key(project: Project) -> None:
    created = call(project, "key", "create", "acme/prod")
    assert (created.returncode, "acme-prod" in created.stderr) == (1, True)  # it is there
    assert "acme-support" in call(project, "status").stdout


def test_a_mistake_below_a_renamed_client_is_shown_at_its_line(project: Project) -> None:
    file = project.root / "clients" / "acme.yaml"
    before = file.read_text("utf-8")
    try:
        file.write_text(before.replace("base: small", "base: smal", 1), "utf-8")
        done = call(project, "validate")
    finally:
        file.write_text(before, "utf-8")
    line = before.splitlines().index("        base: small") + 1
    assert f"clients/acme.yaml:{line}:15" in done.stderr
    assert "`smal`" in done.stderr


HOST = "engine: attach, servers: {{{}: {{url: 'http://127.0.0.1:{}', base: {}, "
HOST += "max_loras: 4, max_lora_rank: 16}}}}"
FLEET = """\
fleet: demo
bases:
  {bases}
hosts:
  {hosts}
overrides:
  fine: {{accept: 'sha256:41f0cc9d0a09', alias: nova-a, reason: r, by: b, until: '2031-01-01'}}
clients:
  {clients}: {{formerly: acme, adapters: {{a: {adapter}}}}}
  birch: {{adapters: {{b: {{base: tiny, version: "1.0.0", apart: [nova, nova-a]}}}}}}
"""
TINY_BASE = "tiny: {model: models/base/tiny}"


def load(root: Path, **parts: str) -> FleetSpec:
    usual = {
        "bases": TINY_BASE, "hosts": f"rack1: {{{HOST.format('one', 1, 'tiny')}}}",
        "clients": "nova", "adapter": '{base: tiny, version: "1.0.0", pin: rack1}',
    }  # fmt: skip
    entry = {"rank": 8, "bytes": 10, "modules": ["q_proj"], "base": "tiny"}
    names = {"acme-a-tiny-v1.0.0": "a" * 64, "birch-b-tiny-v1.0.0": "b" * 64}
    adapters = {name: {**entry, "digest": digest} for name, digest in names.items()}
    lock = {"bases": {"tiny": TINY}, "adapters": adapters}
    write(root, {"fleet.yaml": FLEET.format(**usual | parts), "fleet.lock": json.dumps(lock)})
    return load_project(root, None, {}).fleet


def test_references_by_the_new_names_mean_the_first_names(tmp_path: Path) -> None:
    before = load(tmp_path / "before", hosts=f"rack1: {{{HOST.format('one', 1, 'tiny')}}}")
    after = load(
        tmp_path / "after",
        bases="small: {formerly: tiny, model: models/base/tiny}",
        hosts=f"desk: {{formerly: rack1, {HOST.format('one', 1, 'small')}}}",
        adapter='{base: small, version: "1.0.0", pin: desk}',
    )
    for part in ("adapters", "bases", "hosts", "overrides"):
        assert getattr(after, part) == getattr(before, part)
    assert after.called == {
        "bases.tiny": "small", "clients.acme": "nova", "hosts.rack1": "desk"
    }  # fmt: skip


TWO = "tiny: {{model: m}}\n  a: {{formerly: {}, model: m}}\n  b: {{formerly: {}, model: m}}"


@pytest.mark.parametrize(
    ("bases", "line", "says"),
    [
        (TWO.format("tiny", "older"), 4, "`tiny` is still declared, so nothing was renamed."),
        (TWO.format("old", "old"), 5, "Two bases claim to be the former `old`."),
    ],
)
def test_a_rename_that_cannot_be_is_refused_at_its_place(
    tmp_path: Path, bases: str, line: int, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, bases=bases)
    (problem,) = (found for found in caught.value.diagnostics if found.code == "FC1212")
    assert (problem.place and problem.place.line, problem.detail) == (line, says)
