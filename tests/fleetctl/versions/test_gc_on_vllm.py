"""gc and smoke tests on a real vLLM under load: what is listed is there, and no request fails."""

import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.other_bytes import other, pinned_by_hand

pytestmark = [pytest.mark.live, pytest.mark.long]
OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
OLDEST = "acme-support-tiny-v1.0.0"
BEFORE = ("acme-support-tiny-v1.7.0", "acme-support-tiny-v1.8.0")
CLIENT = "clients/acme.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, vllm_python: Path) -> Iterator[Project]:
    """The quickstart fleet on vLLM; a replaced version is kept for a second, and two have been."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", vllm_python)
    fleet = made.root / "fleet.yaml"
    text = fleet.read_text("utf-8")
    pace = "{weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert pace in text
    text = text.replace(pace, "{weights: [100%], bake: 1s, retain: 1s, gates: []}")
    fleet.write_text(text, encoding="utf-8")
    source, acme = made.root / "models/adapters/acme/support-v2.1.0", made.root / CLIENT
    for number, name in enumerate((OLDEST, *BEFORE), start=1):
        folder = other(source, made.root.parent / name, number / 1024)
        assert call(made, "adapter", "add", str(folder), "--as", name).returncode == 0
    assert call(made, "gateway", "start").returncode == 0
    declared = acme.read_text(encoding="utf-8")
    for name in (*BEFORE, OLD):
        version = name.rpartition("-v")[2]
        acme.write_text(declared.replace('"2.1.0"', f'"{version}"'), encoding="utf-8")
        done = call(made, "apply", "--auto", "--yes")
        assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()


@dataclass
class Seen:
    """What clients and the server's own list showed while the block ran."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)
    looks: int = 0
    missing: list[str] = field(default_factory=list)
    """Folders of versions that the server listed and that were not there."""


@contextmanager
def watched(project: Project) -> Iterator[Seen]:
    """Ask two aliases again and again, and compare the server's list with the folders."""
    text = (project.root / "fleet.yaml").read_text(encoding="utf-8")
    gateway = text.partition('listen: "')[2].partition('"')[0]
    server = f"http://127.0.0.1:{text.partition('port: ')[2].split()[0]}"
    key = (project.root / ".fleetctl/keys/acme-prod").read_text(encoding="utf-8").strip()
    seen, ended = Seen(), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            for alias in ("acme-support", "acme-triage"):
                body = {"model": alias, "max_tokens": 4, "prompt": "No rush. delivery to Lyon"}
                request = urllib.request.Request(
                    f"http://{gateway}/v1/completions",
                    data=json.dumps(body).encode(),
                    headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
                )
                try:
                    urllib.request.urlopen(request, timeout=60).read()
                    seen.answered += 1
                except OSError as error:
                    seen.failed.append(f"{alias}: {error}")

    def look() -> None:
        while not ended.is_set():
            for name, path in listed(server).items():
                seen.missing += [f"{name}: {path}"] if not present(server, name, path) else []
            seen.looks += 1

    threads = [threading.Thread(target=each) for each in (ask, look)]
    for each in threads:
        each.start()
    try:
        yield seen
    finally:
        ended.set()
        for each in threads:
            each.join()


def listed(server: str) -> dict[str, str]:
    """Return the adapters that a server lists, with the folder that it would read again."""
    with urllib.request.urlopen(f"{server}/v1/models", timeout=60) as reply:
        cards: list[dict[str, Any]] = json.load(reply)["data"]
    return {each["id"]: each["root"] for each in cards if each.get("parent")}


def present(server: str, name: str, path: str) -> bool:
    """Say whether a folder is there, or its version has just been unloaded."""
    return (Path(path) / "adapter_config.json").exists() or name not in listed(server)


def collected(project: Project) -> set[str]:
    done = call(project, "gc", "--yes", "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    found = (*document["versions"], *document["copies"])
    return {each["name"] for each in found if not each["needed"]}


def test_a_version_is_unloaded_before_its_files_go_and_nobody_notices(project: Project) -> None:
    server = (project.root / "fleet.yaml").read_text("utf-8").partition("port: ")[2].split()[0]
    url = f"http://127.0.0.1:{server}"
    copy = Path(listed(url)[OLD])
    acme = project.root / CLIENT
    with watched(project) as seen:
        text = acme.read_text(encoding="utf-8")
        acme.write_text(text.replace('"2.1.0"', '"2.2.0"'), encoding="utf-8")
        assert call(project, "apply", "--auto", "--yes").returncode == 0
        assert {OLD, NEW} <= {*listed(url)}, "both are loaded, and one answers"
        first = collected(project)
        assert OLDEST in first, "no server has its bytes"
        assert copy.name not in first
        assert copy.is_dir(), "the server still lists it"
        while OLD in listed(url):  # until its retention of a second is over
            assert call(project, "apply", "--auto", "--yes").returncode == 0
        assert copy.name in collected(project)
        assert not copy.exists()
    assert seen.failed == []
    assert seen.missing == []
    assert min(seen.answered, seen.looks) > 10
    # The version stays in the library, so the way back is a load.
    assert (project.root / "models/adapters/acme/support-v2.1.0").is_dir()
    assert not (project.root / "models/adapters/acme/support-v1.0.0").exists()
    assert call(project, "plan", "--detailed-exitcode").returncode == 0
    assert call(project, "drift").returncode == 0


def test_an_adapter_without_effect_answers_like_its_base_and_gets_no_traffic(
    project: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "faint"
    shutil.copytree(project.root / "models/adapters/acme/support-v2.3.0", folder)
    weaken(folder / "adapter_model.safetensors")
    name = "acme-support-tiny-v2.9.0"
    assert call(project, "adapter", "add", str(folder), "--as", name).returncode == 0
    acme = project.root / "clients/acme.yaml"
    text = acme.read_text(encoding="utf-8")
    acme.write_text(text.replace('"2.2.0"', '"2.9.0"'), encoding="utf-8")
    with watched(project) as seen:
        done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 4
    assert "FC5151" in done.stderr
    assert "answers each of the 5 inputs as its base does" in " ".join(done.stderr.split())
    route = call(project, "status", "--client", "acme", "--format", "json").stdout
    assert f'"{name}": 100' not in route
    assert seen.failed == []
    acme.write_text(text, encoding="utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 0


def test_a_version_with_nan_that_was_pinned_by_hand_reaches_no_server(project: Project) -> None:
    name = "acme-support-tiny-v3.0.0"
    pinned_by_hand(project.root, NEW, name)
    acme = project.root / "clients/acme.yaml"
    text = acme.read_text(encoding="utf-8")
    acme.write_text(text.replace('"2.2.0"', '"3.0.0"'), encoding="utf-8")
    with watched(project) as seen:
        done = call(project, "apply", "--auto", "--yes", "--format", "json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 4
    (failed,) = [each for each in events if each["type"] == "step_failed"]
    assert "FC3132" in failed["detail"]
    assert "step_begin" not in {each["type"] for each in events}
    assert seen.failed == []
    assert call(project, "drift").returncode == 2
    acme.write_text(text, encoding="utf-8")
    assert call(project, "drift").returncode == 0


def weaken(weights: Path) -> None:
    """Make every value of each B matrix 2**-66 in bfloat16: more than zero, and without effect.

    Zeros would not reach the server: a load refuses them.
    """
    content = bytearray(weights.read_bytes())
    begins = 8 + int.from_bytes(content[:8], "little")
    for tensor, facts in json.loads(content[8:begins]).items():
        if "lora_B" in tensor:
            assert facts["dtype"] == "BF16"
            start, end = facts["data_offsets"]
            content[begins + start : begins + end] = b"\x80\x1e" * ((end - start) // 2)
    weights.write_bytes(content)
