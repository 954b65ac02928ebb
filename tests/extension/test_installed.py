"""A package that fleetctl does not know: installed by pip, named, trusted, planned and applied."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_path

import pytest

from fleet import config
from runtime.extensions import PREFIX, SHIPPED, ExtensionError, load
from runtime.operations.machines.trust import add_trust, parse_items
from runtime.trust import UntrustedError
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(__file__).with_name("fleetctl-plain")
EXTENSIONS = (
    "extensions: {fleetctl-plain: {engines: [plain], notice_sinks: [lines], "
    "compile_targets: [hosts_file]}}\n"
)


APPLY = ("apply", "--auto", "--yes")
PINNED = ("--package", "Fleetctl_Plain==1.0.0")


def write_wheel(folder: Path) -> Path:
    """Write the wheel that a build backend would make of the package; no backend is needed."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))["project"]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    groups = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    files = {
        path.relative_to(PACKAGE / "src").as_posix(): path.read_text("utf-8")
        for path in sorted((PACKAGE / "src").rglob("*.py"))
    } | {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {project['name']}\n"
        f"Version: {project['version']}\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/entry_points.txt": groups,
    }
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{stem}.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    return path


@dataclass(frozen=True)
class Operator:
    """A person with an environment of Python, a file of trust and a project."""

    python: Path
    root: Path
    config: Path

    def run(self, *words: str, fork: bool = False) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.config)}
        if fork:
            environment |= {
                "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "2", "CI_MERGE_REQUEST_PROJECT_ID": "1",
            }  # fmt: skip
        return subprocess.run(
            [self.python, "-m", "fleetctl", *words],
            cwd=self.root, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def told(self, *words: str, exit_code: int = 0, fork: bool = False) -> str:
        """Run a command that ends with a code; return all that it prints."""
        done = self.run(*words, fork=fork)
        told = done.stdout + done.stderr
        assert done.returncode == exit_code, told
        return told

    def declare(self, extensions: str = EXTENSIONS, engine: str = "plain") -> None:
        """Write a fleet of the quickstart's clients on a host of an engine."""
        text = (REPOSITORY / "examples" / "quickstart" / "fleet.yaml").read_text("utf-8")
        head, _, rest = text.partition("hosts:\n")
        rollouts = rest.partition("rollouts:\n")[2]
        port = free_port()
        host = f"hosts: {{rack: {{engine: {engine}, devices: {{cpu0: {{kind: cpu, memory: 6GiB, "
        host += f"port: {port}}}}}}}}}\n"
        text = f"{head}{extensions}{host}rollouts:\n{rollouts}"
        (self.root / "fleet.yaml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment, with fleetctl and with the package."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (packages / "fleetctl.pth").write_text(f"{REPOSITORY}\n{get_path('purelib')}\n", "utf-8")
    words = ["install", "--no-index", "--no-deps", "--quiet", str(write_wheel(folder))]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *words], check=True)
    return python


@pytest.fixture
def operator(python: Path, tmp_path: Path) -> Iterator[Operator]:
    root = tmp_path / "project"
    shutil.copytree(REPOSITORY / "examples" / "quickstart", root)
    made = Operator(python, root, tmp_path / "config")
    for path in sorted((root / "clients").iterdir()):
        if path.name != "globe.yaml":
            path.unlink()
    globe = root / "clients" / "globe.yaml"
    without = re.sub(r"    keys:\n      .*\n", "", globe.read_text("utf-8"))
    globe.write_text(without, encoding="utf-8")
    made.declare()
    yield made
    for record in root.glob(".fleetctl/extensions/*/*/record.json"):
        os.kill(json.loads(record.read_text("utf-8"))["pid"], 9)


def test_the_engine_passes_the_conformance_suite_where_it_is_installed(python: Path) -> None:
    words = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, str(PACKAGE / "tests")]
    done = subprocess.run(
        [python, "-m", "pytest", *words],
        cwd=PACKAGE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "13 passed" in done.stdout


def test_a_named_and_trusted_engine_is_planned_applied_and_converges(operator: Operator) -> None:
    assert "fleetctl-plain==1.0.0" in operator.told("trust", "add", *PINNED)
    assert "server/tiny-rack-cpu0" in operator.told("plan", "--format", "json")
    operator.told(*APPLY)
    operator.told("plan", "--detailed-exitcode")
    operator.told("compile", "--target", "hosts_file", "--out", "made")
    (line,) = (operator.root / "made" / "versions.txt").read_text("utf-8").splitlines()
    assert line.startswith("globe-language globe-language-tiny-v1.0.0 100 http://127.0.0.1:")


def test_nothing_of_a_package_is_imported_before_it_is_trusted(operator: Operator) -> None:
    operator.told("trust", "add", "--package", "fleetctl-plain==2.0.0")
    planned = operator.told("plan")
    assert "`fleetctl-plain`, whose code nobody here has confirmed" in planned
    assert "fleetctl trust add --package fleetctl-plain==1.0.0" in planned
    assert "Not seen: tiny-rack-cpu0" in operator.told(*APPLY)
    assert not list(operator.root.glob(".fleetctl/extensions"))


def test_an_engine_that_no_declared_package_has_is_refused_with_its_place(
    operator: Operator,
) -> None:
    operator.declare(engine="plaim")
    told = operator.told("validate", exit_code=1)
    assert "FC1112" in told
    assert "`plain`" in told


def test_a_package_that_is_not_installed_makes_its_own_hosts_unknown(operator: Operator) -> None:
    operator.declare(EXTENSIONS.replace("fleetctl-plain", "fleetctl-absent"))
    assert "package `fleetctl-absent`, which is not installed here" in operator.told("plan")


def test_the_branch_of_a_fork_loads_no_extension(operator: Operator) -> None:
    operator.told("trust", "add", "--package", "fleetctl-plain")
    assert "FC1278" in operator.told(*APPLY, fork=True, exit_code=1)
    operator.told("plan", "--offline", fork=True)
    assert not list(operator.root.glob(".fleetctl/extensions"))


def test_a_package_is_trusted_and_a_fork_still_loads_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "fleetctl_made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fleetctl-made-up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fleetctl.engines]\nmade = fleetctl_made_up:Made\n")
    (tmp_path / "fleetctl_made_up.py").write_text("raise RuntimeError('it was imported')\n")
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path)])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(UntrustedError, match="nobody here has confirmed"):
        load("engines", "made", "fleetctl-made-up")
    add_trust(
        tmp_path / "project", parse_items((), ["fleetctl-made-up"], adding=True), None, (), ""
    )
    with pytest.raises(ExtensionError, match="it was imported"):
        load("engines", "made", "fleetctl-made-up")
    with pytest.raises(ExtensionError, match="has no `maid` in its group"):
        load("engines", "maid", "fleetctl-made-up")
    monkeypatch.setenv("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "2")
    with pytest.raises(UntrustedError, match="branch of a fork"):
        load("engines", "made", "fleetctl-made-up")


def test_the_shipped_names_are_entry_points_of_fleetctl_too() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {group.removeprefix(PREFIX): its for group, its in project["entry-points"].items()}
    assert declared == SHIPPED
    for group, entries in SHIPPED.items():
        assert sorted(entries) == sorted(config.SHIPPED[group])
        assert all(callable(load(group, name)) for name in entries)
