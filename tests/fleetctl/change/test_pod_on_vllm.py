"""The container of a compiled pod, run by a real vLLM without a cluster around it."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fleet.names import AdapterName
from fleet.vllm import POD_PORT
from runtime.library.layout import version_folder
from tests.fleetctl.change.test_compile_command import fleetctl
from tests.fleetctl.project_on_disk import QUICKSTART
from tests.ports import free_port

pytestmark = [pytest.mark.live, pytest.mark.long]
START_S = 120


class ContainerStandIn:
    """Runs the container of a pod as a process: its mounts are folders, its ConfigMaps files."""

    def __init__(self, root: Path, documents: list[dict[str, Any]], python: Path) -> None:
        self.root, self.port = root, free_port()
        (pod,) = (document for document in documents if document["kind"] == "Deployment")
        spec = pod["spec"]["template"]["spec"]
        (self.container,) = spec["containers"]
        self.maps = {
            document["metadata"]["name"]: document["data"]
            for document in documents
            if document["kind"] == "ConfigMap"
        }
        self.volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}
        self.mounts = {name: (at, root / name) for name, at in mounts.items()}
        self.python = python
        self.write_maps()

    def write_maps(self) -> None:
        """Write the files of ConfigMaps, as the kubelet does when one has changed."""
        for name, volume in self.volumes.items():
            if "configMap" in volume:
                data = self.maps[volume["configMap"]["name"]]
                items = volume["configMap"].get("items") or [{"key": k, "path": k} for k in data]
                for item in items:
                    file = self.root / name / item["path"]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(data[item["key"]], encoding="utf-8")

    def inside(self, word: str) -> str:
        """Return a word with the folders of the mounts in the place of their paths."""
        for at, folder in sorted(self.mounts.values(), key=lambda mount: -len(mount[0])):
            word = word.replace(at, str(folder)) if word.startswith(at) else word
        for at, folder in self.mounts.values():
            word = word.replace(f'"path": "{at}/', f'"path": "{folder}/')
        return word.replace("$$(", "$(").replace(str(POD_PORT), str(self.port))

    def command(self, words: list[str]) -> list[str]:
        found = [self.inside(word) for word in words]
        return [str(self.python) if word == "python3" else word for word in found]

    def start(self) -> "subprocess.Popen[bytes]":
        words = [*self.container["command"], *self.container["args"]]
        given = {entry["name"]: self.inside(entry["value"]) for entry in self.container["env"]}
        with (self.root / "log").open("wb") as log:
            return subprocess.Popen(
                self.command(words), env={**os.environ, **given}, cwd=self.root,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def is_ready(self) -> bool:
        """Return whether the readiness probe passes."""
        words = self.command(self.container["readinessProbe"]["exec"]["command"])
        draining = str(self.root / "draining")
        words = [word.replace("/tmp/draining", draining) for word in words]  # noqa: S108
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def status(self, model: str) -> int:
        body = {"model": model, "prompt": "I was charged twice.", "max_tokens": 4}
        url = f"http://127.0.0.1:{self.port}/v1/completions"
        return httpx.post(url, json=body, timeout=60, trust_env=False).status_code


@pytest.fixture
def pod(tmp_path: Path, vllm_python: Path) -> Iterator[ContainerStandIn]:
    """A pod's container that runs, with the base and the adapters of its server in its claim."""
    project = tmp_path / "project"
    shutil.copytree(QUICKSTART, project)
    arguments = ("compile", "--target", "kubernetes", "--image", "registry.example/vllm:0.32")
    documents = list(yaml.safe_load_all(fleetctl(project, *arguments).stdout))
    made = ContainerStandIn(tmp_path / "pod", documents, vllm_python)
    store = made.root / "store"
    (store / "bases").mkdir(parents=True)
    (store / "bases" / "tiny").symlink_to(project / "models/base/tiny")
    entries = json.loads((made.root / "adapters" / "adapters.json").read_text("utf-8"))
    for adapter, entry in entries.items():
        folder = version_folder(project / "models", AdapterName.parse(adapter))
        (store / entry["digest"]).symlink_to(folder)
    # A folder stands where the claim would be mounted.
    server = made.volumes["adapters"]["configMap"]["name"]
    made.maps[server]["adapters.json"] = made.inside(made.maps[server]["adapters.json"])
    made.write_maps()
    process = made.start()
    yield made
    process.terminate()
    process.wait()


def test_a_compiled_pod_serves_the_versions_of_its_map_and_no_other(pod: ContainerStandIn) -> None:
    deadline = time.monotonic() + START_S
    while not pod.is_ready():
        assert time.monotonic() < deadline, (pod.root / "log").read_text("utf-8")[-3000:]
        time.sleep(0.2)
    file = pod.root / "adapters" / "adapters.json"
    entries = json.loads(file.read_text("utf-8"))
    first, *_ = sorted(entries)
    assert pod.status(first) == 200
    assert pod.status("../models/acme") == 404
    later = "acme-support-tiny-v2.2.0"
    assert later not in entries
    assert pod.status(later) == 404
    # The map of a running pod changes: the next version answers without a restart.
    project = pod.root.parent / "project"
    lock = yaml.safe_load((project / "fleet.lock").read_text("utf-8"))
    folder = version_folder(project / "models", AdapterName.parse(later))
    entry = {"path": str(folder), "digest": lock["adapters"][later]["digest"]}
    file.write_text(json.dumps({**entries, later: entry}), encoding="utf-8")
    assert pod.status(later) == 200
    assert pod.is_ready()
    (pod.root / "draining").touch()
    assert not pod.is_ready()
