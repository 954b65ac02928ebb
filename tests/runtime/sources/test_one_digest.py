"""A version from every kind of source is the same version."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import obstore
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from obstore.store import S3Store

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import QUICKSTART, Project
from tests.runtime.sources.buckets import create_bucket
from tests.runtime.sources.stand_ins import COMMIT, StandIn, serving

NAME = "acme-support-tiny-v2.1.0"
FOLDER = "models/adapters/acme/support-v2.1.0"
SCHEMA = Path(__file__).parents[2] / "data" / "schemas" / "modelpack-config.schema.json"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    shutil.copytree(QUICKSTART, root, ignore=shutil.ignore_patterns(".fleetctl", "training"))
    return Project(root, ())


def locked(project: Project) -> dict[str, str]:
    document = json.loads((project.root / "fleet.lock").read_text("utf-8"))
    entry: dict[str, str] = document["adapters"][NAME]
    return entry


def away(project: Project, tmp_path: Path) -> Path:
    """Move the version out of library and lock; return its folder."""
    return project.take_out(NAME, FOLDER, tmp_path / "kept")


def added(project: Project, source: str) -> dict[str, str]:
    done = call(project, "adapter", "add", source, "--as", NAME)
    assert done.returncode == 0, done.stderr
    assert not any((project.root / "models/.incoming").rglob("*.part"))
    assert call(project, "adapter", "verify", NAME).returncode == 0
    return locked(project)


@pytest.mark.sources
def test_a_registry_gives_what_was_pushed_and_other_tools_read_it(
    project: Project, registry: str, tmp_path: Path
) -> None:
    before = locked(project)
    pushed = call(project, "adapter", "push", NAME, f"oci://{registry}/acme/support:2.1.0")
    assert pushed.returncode == 0, pushed.stderr
    reference = pushed.stdout.strip()
    assert reference.startswith(f"oci://{registry}/acme/support@sha256:")
    kept = away(project, tmp_path)
    after = added(project, f"oci://{registry}/acme/support:2.1.0")
    assert after == {**before, "source": reference}
    names = {str(path.relative_to(kept)) for path in kept.rglob("*")}
    folder = project.root / FOLDER
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == names
    # Of a fresh checkout the lock alone is there, and a tag that has moved on changes nothing.
    other = call(
        project,
        "adapter",
        "push",
        "acme-support-tiny-v2.2.0",
        f"oci://{registry}/acme/support:2.1.0",
    )
    assert other.returncode == 0
    shutil.rmtree(folder)
    assert call(project, "adapter", "pull", "--offline").returncode == 1
    pulled = call(project, "adapter", "pull")
    assert pulled.returncode == 0, pulled.stderr
    assert locked(project) == after
    assert call(project, "adapter", "verify").returncode == 0
    moved = call(project, "adapter", "add", f"oci://{registry}/acme/support:2.1.0", "--as", NAME)
    assert moved.returncode == 1
    assert "[FC3011]" in moved.stderr
    if oras := shutil.which("oras"):
        target = tmp_path / "oras"
        words = [oras, "pull", "--plain-http", "-o", str(target), reference.removeprefix("oci://")]
        subprocess.run(words, check=True, capture_output=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert (target / name).read_bytes() == (kept / name).read_bytes()


@pytest.mark.sources
def test_the_configuration_of_a_pushed_version_is_that_of_modelpack(
    project: Project, registry: str, tmp_path: Path
) -> None:
    assert (
        call(project, "adapter", "push", NAME, f"oci://{registry}/acme/support:1").returncode == 0
    )
    blobs = (path.read_bytes() for path in (tmp_path / "registry").rglob("data") if path.is_file())
    configurations = [blob for blob in blobs if b'"modelfs"' in blob]
    assert len(configurations) == 1
    schema = json.loads(SCHEMA.read_text("utf-8"))
    Draft202012Validator(schema).validate(json.loads(configurations[0]))


@pytest.mark.sources
def test_a_bucket_gives_the_same_version(
    project: Project, object_store: str, tmp_path: Path
) -> None:
    before, kept = locked(project), away(project, tmp_path)
    store = S3Store("models", endpoint=object_store, client_options={"allow_http": True})
    create_bucket(object_store)
    for path in kept.rglob("*"):
        if path.is_file():
            obstore.put(store, f"acme/support/{path.relative_to(kept)}", path.read_bytes())
    assert added(project, "s3://models/acme/support") == {
        **before, "source": "s3://models/acme/support/"
    }  # fmt: skip
    none = call(project, "adapter", "add", "s3://models/none", "--as", "acme-support-tiny-v9.0.0")
    assert "[FC3053]" in none.stderr


def test_the_hub_and_a_web_server_give_the_same_version(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, kept = locked(project), away(project, tmp_path)
    with serving(StandIn(kept)) as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        after = added(project, "hf://acme/support@main")
        assert after == {**before, "source": f"hf://acme/support@{COMMIT}"}
        away(project, tmp_path / "again")
        folder = f"https://127.0.0.1:{stand_in.port}/files/"
        assert added(project, folder) == {**before, "source": folder}


def test_files_that_change_while_a_version_arrives_are_brought_whole(
    project: Project, tmp_path: Path
) -> None:
    before, kept = locked(project), away(project, tmp_path)
    weights = kept / "adapter_model.safetensors"
    sound, other = weights.read_bytes(), bytes(weights.stat().st_size)
    weights.write_bytes(other)
    with serving(StandIn(kept)) as stand_in:
        stand_in.fault = lambda request: (
            web.Response(status=403)
            if request.method == "GET" and request.path.endswith("training.json")
            else None
        )
        folder = f"https://127.0.0.1:{stand_in.port}/files/"
        stopped = call(project, "adapter", "add", folder, "--as", NAME)
        assert "[FC3052]" in stopped.stderr
        parts = [*(project.root / "models/.incoming").rglob("adapter_model.safetensors*")]
        assert len(parts) == 1  # in part, or whole
        parts[0].with_name("adapter_model.safetensors").unlink(missing_ok=True)
        parts[0].with_name("adapter_model.safetensors.part").write_bytes(other[:1000])
        weights.write_bytes(sound)
        stand_in.fault = lambda _: None
        assert added(project, folder) == {**before, "source": folder}


@pytest.mark.sources
def test_a_registry_with_a_login_is_asked_by_it(
    project: Project, closed_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"oci://{closed_registry}/acme/support:1"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    refused = call(project, "adapter", "push", NAME, target)
    assert refused.returncode == 1
    assert "[FC3052]" in refused.stderr
    assert "docker login" in refused.stderr
    (tmp_path / "docker").mkdir()
    login = base64.b64encode(b"ci:secret").decode()
    document = {"auths": {closed_registry: {"auth": login}}}
    (tmp_path / "docker/config.json").write_text(json.dumps(document), encoding="utf-8")
    assert call(project, "adapter", "push", NAME, target).returncode == 0
    away(project, tmp_path)
    assert login not in json.dumps(added(project, target))


def test_a_host_that_the_lock_alone_names_is_not_asked(project: Project, tmp_path: Path) -> None:
    file = project.root / "fleet.lock"
    document = json.loads(file.read_text("utf-8"))
    document["format"] = 3
    document["adapters"][NAME]["source"] = "https://models.test/support/"
    file.write_text(json.dumps(document), encoding="utf-8")
    shutil.move(project.root / FOLDER, tmp_path / "kept")
    done = call(project, "adapter", "pull")
    assert done.returncode == 1
    assert "[FC1270]" in done.stderr
    assert "fleetctl trust add https://models.test" in done.stderr
    assert not (project.root / "models/.incoming").exists()
