"""A copy of the quickstart with two declared keys, and a version that waits to be added."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project
from tests.runtime.library.signing.keys import make_key, sign
from tests.runtime.sources.conftest import serving_registry

NAME = "acme-support-tiny-v2.1.0"
FOLDER = "models/adapters/acme/support-v2.1.0"
KEYS = """
signatures:
  release: {file: keys/release.pub}
  former: {file: keys/former.pub, until: 2026-01-31}
plan_rules:
  provenance: {signed: guarded%s}
"""


@dataclass
class SigningProject:
    """The project, its keys, and the folder of the version that is not added yet."""

    project: Project
    keys: Path
    folder: Path

    @property
    def root(self) -> Path:
        return self.project.root

    def add(self, *, key: str = "") -> Done:
        if key:
            sign(self.folder, self.keys / f"{key}.pem", "training.json", "evals")
        return self.call("adapter", "add", str(self.folder), "--as", NAME)

    def call(self, *arguments: str) -> Done:
        return call(self.project, *arguments)

    def declare(self, more: str = "") -> None:
        file = self.root / "fleet.yaml"
        text = file.read_text("utf-8").partition("\nsignatures:")[0]
        file.write_text(text + KEYS % more, "utf-8")

    def locked(self) -> dict[str, object]:
        document = json.loads((self.root / "fleet.lock").read_text("utf-8"))
        entry: dict[str, object] = document["adapters"][NAME]
        return entry

    def write_lock(self, **changed: object) -> None:
        file = self.root / "fleet.lock"
        document = json.loads(file.read_text("utf-8"))
        document["adapters"][NAME] |= changed
        file.write_text(json.dumps(document | {"format": 4}), "utf-8")


@pytest.fixture
def signing(tmp_path: Path) -> SigningProject:
    project = Project.copy(tmp_path / "project", None)
    keys, folder = project.root / "keys", tmp_path / "trained"
    for name in ("release", "former", "stranger"):
        make_key(keys, name)
    shutil.move(project.root / FOLDER, folder)
    folder.chmod(0o755)
    lock = project.root / "fleet.lock"
    document = json.loads(lock.read_text("utf-8"))
    del document["adapters"][NAME]
    lock.write_text(json.dumps(document), encoding="utf-8")
    acme, fleet = project.root / "clients/acme.yaml", project.root / "fleet.yaml"
    only_support = acme.read_text("utf-8").partition("      triage:")[0]
    acme.write_text(only_support.replace("tier: premium", "tier: guarded"), "utf-8")
    tiers = "tiers:\n  guarded: {retrain_every: 30d}\n"
    fleet.write_text(fleet.read_text("utf-8").replace("tiers:\n", tiers), "utf-8")
    made = SigningProject(project, keys, folder)
    made.declare()
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with serving_registry(tmp_path) as address:
        yield address
