"""Links and special files in the project: refused by name before they are opened."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks.conftest import OUTSIDE, call, limited
from tests.attacks.outside import (
    linked,
    refused,
    with_client,
    with_parents,
)


@pytest.mark.parametrize("name", ["clients/acme.yaml", "more.yml", "deep/er/x.yaml", "config.yaml"])
def test_a_declaration_that_is_a_link_outside_is_refused(
    project: Path, outside: Path, name: str
) -> None:
    linked(*with_parents(project / name), outside / "more.yaml")
    assert name in refused(project)
    refused(project, "fmt", "--check")


@pytest.mark.parametrize("name", ["clients", "deep/er"])
def test_a_folder_that_is_a_link_outside_is_not_looked_into(
    project: Path, outside: Path, name: str
) -> None:
    linked(*with_parents(project / name), outside)
    text = refused(project)
    assert name in text
    assert "more.yaml" not in text


def test_a_link_to_the_whole_file_system_ends_at_once(project: Path, trust_home: Path) -> None:
    linked(project / "all", Path("/"))
    assert "all" in refused(project), trust_home


def test_links_in_a_circle_add_nothing(project: Path) -> None:
    (project / "clients").mkdir()
    linked(project / "clients" / "up", project)
    linked(project / "clients" / "self", project / "clients")
    linked(project / "again.yaml", project / "again.yaml")
    refused(project, code="FC1286")
    (project / "again.yaml").unlink()
    assert call(project, "config", "show").code == 0


@pytest.mark.parametrize("name", ["prod", "dev"])
def test_an_overlay_that_is_a_link_outside_is_refused(
    project: Path, outside: Path, name: str
) -> None:
    linked(*with_parents(project / "env" / f"{name}.yaml"), outside / "more.yaml")
    done = call(project, "--env", name, "validate")
    assert (done.code, "FC1285" in done.text) == (1, True)
    assert OUTSIDE not in done.text


@pytest.mark.parametrize("name", ["fleet.lock", "calibration/a.json"])
def test_what_fleetctl_keeps_in_the_project_is_no_link_outside(
    project: Path, outside: Path, name: str
) -> None:
    linked(*with_parents(project / name), outside / "secret")
    refused(project)


KINDS: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)),
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "/dev/stdin": lambda path: path.symlink_to("/dev/stdin"),
    "/dev/tty": lambda path: path.symlink_to("/dev/tty"),
    "/proc/self/environ": lambda path: path.symlink_to("/proc/self/environ"),
    "/proc/self/root": lambda path: path.symlink_to("/proc/self/root"),
    "/proc": lambda path: path.symlink_to("/proc"),
    "/sys": lambda path: path.symlink_to("/sys"),
    "/proc/self/fd/0": lambda path: path.symlink_to("/proc/self/fd/0"),
}
TARGETS = ["clients/acme.yaml", "fleet.lock", "calibration/a.json", "golden/acme.jsonl"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_special_files_are_refused_by_name_and_never_opened(
    project: Path, kind: Callable[[Path], object], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (path,) = with_parents(project / target)
    kind(path)
    if target.startswith("golden"):
        with_client(project)
    done = call(project, "validate")
    assert done.code == 1
    assert "FC1286" in done.text or "FC1285" in done.text, done.text
    assert target in done.text


def test_a_command_on_special_files_ends_within_its_limits(project: Path) -> None:
    os.mkfifo(project / "more.yaml")
    linked(*with_parents(project / "clients"), Path("/proc"))
    done = limited(project, "validate")
    assert (done.code, "FC1286" in done.text) == (1, True), done.text


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    return folder


PARTS = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "training.json",
    "README.md",
    "evals",
    "evals/deep/er.json",
]


def based(root: Path) -> Path:
    """Give the project a base to check adapters against, and return a folder for an adapter."""
    folder = root / "models" / "base" / "tiny"
    folder.mkdir(parents=True)
    known = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16}
    more = {"intermediate_size": 8, "architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (folder / "config.json").write_text(json.dumps(known | more))
    return adapter(root.parent / "trained")


@pytest.mark.parametrize("kind", ["link outside", "link beside", "FIFO"])
@pytest.mark.parametrize("part", PARTS)
def test_adding_an_adapter_copies_no_links(
    project: Path, outside: Path, part: str, kind: str
) -> None:
    source = based(project)
    (path,) = with_parents(source / part)
    path.unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(outside / "secret" if kind == "link outside" else "adapter_config.json")
    done = call(project, "adapter", "add", str(source), "--as", "acme-support-tiny-v1.0.0")
    assert (done.code, "FC1288" in done.text) == (1, True), done.text
    assert part in done.text
    assert OUTSIDE not in done.text
    assert not (project / "models" / "adapters").exists()


@pytest.mark.parametrize("level", ["client", "version", "file"])
def test_a_version_in_the_library_that_is_a_link_outside_is_not_read(
    project: Path, outside: Path, level: str
) -> None:
    based(project)
    elsewhere = adapter(outside / "acme" / "support-v1.0.0")
    place = project / "models" / "adapters" / "acme" / "support-v1.0.0"
    match level:
        case "client":
            linked(*with_parents(place.parent), elsewhere.parent)
        case "version":
            linked(*with_parents(place), elsewhere)
        case _:
            adapter(place)
            (place / "adapter_config.json").unlink()
            linked(place / "adapter_config.json", elsewhere / "adapter_config.json")
    done = call(project, "adapter", "add", str(place), "--as", "acme-support-tiny-v1.0.0")
    assert done.code == 1
    assert "FC1288" in done.text or "FC1285" in done.text, done.text
