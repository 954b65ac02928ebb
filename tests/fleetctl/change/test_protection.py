"""`prevent_destroy` refuses plans that end an alias, also once the client has left the files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied."""
    yield from applied(tmp_path_factory.mktemp("fleet"))


@pytest.fixture
def birch(project: Project) -> Path:
    return project.root / "clients/birch.yaml"


def protect(birch: Path, value: str, *, adapter: bool) -> str:
    """Write the flag into the file; return the file's text."""
    text = birch.read_text("utf-8")
    name, pad = ("units", "      ") if adapter else ("birch", "  ")
    lines = [line for line in text.splitlines() if "prevent_destroy" not in line]
    at = lines.index(f"{pad}{name}:") + 1
    lines.insert(at, f"{pad}  prevent_destroy: {value}")
    birch.write_text("\n".join(lines) + "\n", "utf-8")
    return birch.read_text("utf-8")


def applies(project: Project) -> None:
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("adapter", [False, True])
def test_a_protected_alias_ends_only_after_an_apply_that_lifted_the_flag(
    project: Project, birch: Path, *, adapter: bool
) -> None:
    protect(birch, "true", adapter=adapter)
    applies(project)
    kept = birch.read_text("utf-8")
    birch.unlink()
    path = "clients.birch.adapters.units" if adapter else "clients.birch"
    for command in (("plan",), ("apply", "--auto", "--yes")):
        refused = call(project, *command)
        assert refused.returncode == 1
        assert "FC1279" in refused.stderr
        assert f"`{path}.prevent_destroy` is true, as the last apply recorded it" in refused.stderr
    document = call(project, "plan", "--format", "md").stdout
    assert "birch-units" in document
    assert call(project, "plan", "--select", "client=acme").returncode == 0
    birch.write_text(kept, "utf-8")
    protect(birch, "false", adapter=adapter)
    applies(project)
    lifted = birch.read_text("utf-8")
    birch.unlink()
    applies(project)
    birch.write_text(lifted, "utf-8")
    applies(project)


def test_the_place_of_a_flag_that_is_declared_is_named(project: Project, birch: Path) -> None:
    text = protect(birch, "true", adapter=False)
    applies(project)
    head, _, _ = text.partition("    adapters:\n")
    birch.write_text(head, "utf-8")
    line = 1 + head.splitlines().index("    prevent_destroy: true")
    refused = call(project, "plan")
    assert refused.returncode == 1
    assert f"clients/birch.yaml:{line}:" in refused.stderr
    assert "`clients.birch.prevent_destroy` is true." in refused.stderr
    birch.write_text(text, "utf-8")
    assert call(project, "plan", "--detailed-exitcode").returncode == 0
