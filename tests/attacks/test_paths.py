"""Every field of the declarations that names a path: none leads out of the project."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.vllm.flag_rules import PATHS
from tests.attacks.conftest import FLEET, OUTSIDE, call, declare
from tests.attacks.outside import (
    CLIENT,
    PLAIN,
    linked,
    refused,
    with_client,
    with_model,
)

COMMANDS = [
    ("validate",),
    ("plan",),
    ("config", "show"),
    ("status",),
    ("drift",),
    ("apply", "--auto", "--yes"),
    ("eval", "run", "acme-support"),
    ("key", "create", "--all"),
]


FIELDS: dict[str, Callable[[Path, str], None]] = {
    "golden": lambda root, path: with_client(root, golden=path),
    "rolling": lambda root, path: with_client(root, rolling=path),
    "schema": lambda root, path: with_client(root, schema=path),
    "template of a client": lambda root, path: with_client(root, template=path),
    "key": lambda root, path: with_client(root, key=f"file:{path}"),
    "webhook of a client": lambda root, path: with_client(root, webhook=f"file:{path}"),
    "gate": lambda root, path: declare(
        root, f'gates: {{g: {{metric: accuracy_drop, max: 3pp, golden: "{path}"}}}}\n'
    ),
    "template": lambda root, path: declare(
        root, f'notify: {{webhook: "http://127.0.0.1:9/x", template: "{path}"}}\n'
    ),
    "webhook": lambda root, path: declare(root, f'notify: {{webhook: "file:{path}"}}\n'),
    "judge": lambda root, path: declare(
        root, f'evals: {{judge: {{url: "http://127.0.0.1:9", model: m, key: "file:{path}"}}}}\n'
    ),
    "gateway's secret": lambda root, path: declare(
        root, f'gateways: {{main: {{listen: "127.0.0.1:8080", secret: "file:{path}"}}}}\n'
    ),
    "admin socket": lambda root, path: declare(
        root, f'gateways: {{main: {{listen: "127.0.0.1:8080", admin: "{path}"}}}}\n'
    ),
    "library": lambda root, path: declare(root, f'library: "{path}"\n'),
    "model": with_model,
}
PLACES: dict[str, Callable[[Path, Path], str]] = {
    "absolute": lambda outside, _: str(outside),
    "above": os.path.relpath,
    "above by detours": lambda outside, root: f"golden/../x/../{os.path.relpath(outside, root)}/.",
    "link": lambda outside, root: linked(root / "link", outside),
    "link to a link": lambda outside, root: linked(root / "a" / "b", root / "c", outside),
    "below a link": lambda outside, root: (
        f"{linked(root / 'training' / 'd', outside.parent)}/{outside.name}"
    ),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_no_field_leads_out_of_the_project(
    project: Path,
    outside: Path,
    field: Callable[[Path, str], None],
    place: Callable[[Path, Path], str],
) -> None:
    names = {FIELDS["library"]: "", FIELDS["model"]: "", FIELDS["admin socket"]: "admin.sock"}
    target = outside / names.get(field, "secret")
    for name in ("golden", "x"):
        (project / name).mkdir()
    field(project, place(target, project))
    text = refused(project)
    assert f"fleetctl trust add {outside}" in text


@pytest.mark.parametrize("place", [place for place in PLACES if "link" in place])
@pytest.mark.parametrize("flag", sorted(PATHS))
def test_no_link_that_a_flag_names_leads_out_of_the_project(
    project: Path, outside: Path, flag: str, place: str
) -> None:
    path = PLACES[place](outside / "secret", project)
    flags = f"64MiB, flags: {{{flag}: '{os.path.relpath(path, project)}'}}}}"
    (project / "fleet.yaml").write_text(FLEET.replace("64MiB}", flags))
    assert f"fleetctl trust add {outside}" in refused(project)


def test_an_admin_side_is_a_socket_and_a_socket_outside_is_not_called(
    project: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outside)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("docker.sock")
        listening.listen()
        listening.setblocking(False)
        FIELDS["admin socket"](project, str(outside / "docker.sock"))
        for command in ("plan", "validate"):
            refused(project, command)
        call(project, "gateway", "status")
        with pytest.raises(BlockingIOError):
            listening.accept()
    (project / "file").write_text(OUTSIDE)
    FIELDS["admin socket"](project, "file")
    refused(project, code="FC1286")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_reads_what_lies_outside(
    project: Path, outside: Path, command: tuple[str, ...]
) -> None:
    with_client(project, golden=str(outside / "golden.jsonl"))
    refused(project, *command)


def test_all_paths_are_asked_for_in_one_message(project: Path, outside: Path) -> None:
    other = outside.parent / "other folder"
    other.mkdir()
    declare(
        project,
        f'library: "{other}"\n'
        + CLIENT.format(**{**PLAIN, "golden": str(outside / "golden.jsonl")})
        + f"gates: {{g: {{metric: accuracy_drop, max: 3pp, golden: '{outside}/golden.jsonl'}}}}\n",
    )
    text = refused(project)
    assert text.count("FC1285") == 1
    assert f"fleetctl trust add '{other}' {outside}" in text


def test_a_trusted_folder_may_be_named_and_a_link_out_of_it_may_not(
    project: Path, outside: Path
) -> None:
    golden = outside / "set.jsonl"
    golden.write_text("")
    declare(project, f"gates: {{g: {{metric: accuracy_drop, max: 3pp, golden: '{golden}'}}}}\n")
    refused(project)
    assert call(project, "trust", "add", str(outside)).code == 0
    assert "FC1285" not in call(project, "validate").text
    golden.unlink()
    (outside.parent / "beyond").write_text(OUTSIDE)
    golden.symlink_to(outside.parent / "beyond")
    refused(project)


def test_names_of_models_and_models_of_other_machines_are_no_paths_of_this_one(
    project: Path, outside: Path
) -> None:
    for model in ("org/name", "/not/on/this/machine/tiny", "models/base/tiny"):
        FIELDS["model"](project, model)
        assert "FC12" not in call(project, "config", "show").text, outside


def test_a_file_of_a_model_that_is_a_link_outside_is_refused(project: Path, outside: Path) -> None:
    folder = project / "models" / "base" / "tiny"
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).symlink_to(outside / "secret")
        assert name in refused(project)
        (folder / name).unlink()
    os.mkfifo(folder / "config.json")
    refused(project, code="FC1286")


def test_a_publishers_links_within_a_trusted_folder_are_followed(
    project: Path, outside: Path
) -> None:
    snapshot, blobs = outside / "snapshots" / "one", outside / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    FIELDS["model"](project, str(snapshot))
    text = refused(project)
    (command,) = (line for line in text.splitlines() if "fleetctl trust add" in line)
    folders = command.partition("trust add ")[2].split()
    assert call(project, "trust", "add", *folders).code == 0
    assert "FC1285" not in call(project, "validate").text


@pytest.mark.parametrize("path", ["/proc/self/environ", "/dev/zero", "/dev/stdin", "/proc/1/maps"])
def test_special_files_are_refused_where_declared_even_if_all_is_trusted(
    project: Path, path: str
) -> None:
    for field in ("golden", "key", "schema", "template", "library", "model"):
        FIELDS[field](project, path)
        refused(project, code="FC1286")
