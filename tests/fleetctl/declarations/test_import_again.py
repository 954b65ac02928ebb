"""Further servers are imported into a fleet that is there: what stands in its files stays."""

from contextlib import ExitStack
from pathlib import Path

from runtime.engine_conformance import BASE
from runtime.project.load import load_project
from tests.fleetctl.declarations.test_import import changes, codes, project, servers, started
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

__all__ = ["project", "servers"]


def test_a_client_that_is_declared_gets_entries_and_all_else_stays(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    assert call(project, "import", started(servers, tmp_path, "acme-lora")).returncode == 0
    file, clients = project.root / "acme.yaml", project.root / "clients/acme.yaml"
    before = clients.rename(file).read_text("utf-8") + "# the end\n"
    file.write_text(before, encoding="utf-8")
    done = call(project, "import", started(servers, tmp_path, "acme-triage-v2", "acme-lora"))
    assert done.returncode == 0, done.stderr
    assert (f"Added to {file}" in done.stderr, clients.exists()) == (True, False)
    text = file.read_text("utf-8")
    rest = iter(text.splitlines())
    assert [line for line in before.splitlines() if line not in rest] == []
    assert '        alias_for: "acme-triage-v2"' in text
    more = started(servers, tmp_path, "acme-dates")
    assert call(project, "import", more).returncode == 0
    assert sorted(path.name for path in project.root.glob("imported*.yaml")) == [
        "imported.yaml", "imported_2.yaml",
    ]  # fmt: skip
    tasks = load_project(project.root, None, {}).declarations.clients["acme"].adapters
    assert {*tasks} == {"lora", "triage", "dates"}


def test_a_name_of_the_fleet_on_a_server_of_another_base_is_refused(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    assert call(project, "import", started(servers, tmp_path, "acme-lora")).returncode == 0
    file = project.root / "fleet.yaml"
    file.write_text(file.read_text("utf-8").replace(str(BASE), "/elsewhere"), encoding="utf-8")
    done = call(project, "import", started(servers, tmp_path, "acme-lora"))
    assert (done.returncode, codes(done)) == (1, ["FC6095"])
    assert "the declared `acme-lora` (base `tiny`)" in done.stderr.replace("\n", " ")
    assert not (project.root / "imported.yaml").exists()


def test_a_file_without_a_place_for_entries_is_named_and_nothing_is_written(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    assert call(project, "import", started(servers, tmp_path, "acme-lora")).returncode == 0
    file = project.root / "clients/acme.yaml"
    declared = load_project(project.root, None, {}).declarations.clients["acme"].adapters["lora"]
    text = (
        f'clients: {{acme: {{adapters: {{lora: {{base: {declared.base}, version: "1.0.0"}}}}}}}}\n'
    )
    file.write_text(text, encoding="utf-8")
    done = call(project, "import", started(servers, tmp_path, "acme-triage"))
    assert (done.returncode, codes(done)) == (1, ["FC6033"])
    assert "clients/acme.yaml:1" in done.stderr
    assert (file.read_text("utf-8"), (project.root / "imported.yaml").exists()) == (text, False)


def test_a_further_server_joins_the_fleet_and_its_base(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    assert call(project, "import", started(servers, tmp_path, "acme-lora")).returncode == 0
    done = call(project, "import", started(servers, tmp_path, "birch-lora"))
    assert done.returncode == 0, done.stderr
    text = (project.root / "imported.yaml").read_text("utf-8")
    assert "bases:" not in text
    assert "localhost_2:" in text
    assert {change["action"] for change in changes(project)} == {"create"}
