"""Declared paths and links that lead out of the project: refused by name before they are opened."""

import itertools
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks.conftest import FLEET, call, declare, limited

SECRET = "a line that stands outside of the project"
"""Content of every file outside; no command may show it."""
CLIENT = """\
clients:
  acme:
    keys: {{prod: "{key}"}}
    notify: {{webhook: "{webhook}", template: "{template}"}}
    adapters:
      support:
        base: tiny
        version: "1.0.0"
        golden: "{golden}"
        rolling: "{rolling}"
        format: {{json_schema: "{schema}"}}
        smoke: [a, b, c, d, e]
"""
PLAIN = {
    "key": "env:ACME_KEY",
    "webhook": "http://127.0.0.1:9/hook",
    "template": "notice.j2",
    "golden": "golden/acme.jsonl",
    "rolling": "golden/rolling.jsonl",
    "schema": "golden/schema.json",
}
"""Paths in the project, by the field that names them."""
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


@pytest.fixture
def outside(tmp_path: Path, trust_home: Path) -> Path:  # noqa: ARG001 (nothing is trusted)
    """A folder beside the project with a file of every kind that the declarations read."""
    folder = tmp_path / "outside"
    (folder / "base").mkdir(parents=True)
    for name in ("secret", "golden.jsonl", "notice.j2", "schema.json", "more.yaml"):
        (folder / name).write_text(f"{SECRET}: {{{{\n\t{SECRET}\n")
    (folder / "base" / "config.json").write_text(f'{{"hidden_size": "{SECRET}"}}')
    return folder


def with_client(root: Path, **changed: str) -> None:
    declare(root, CLIENT.format(**{**PLAIN, **changed}))


def with_model(root: Path, path: str) -> None:
    (root / "fleet.yaml").write_text(FLEET.replace("models/base/tiny", path))


def refused(root: Path, *command: str, code: str = "FC1285") -> str:
    """Run a command that must refuse, and return what it said."""
    done = call(root, *(command or ("validate",)))
    assert (done.code, code in done.text) == (1, True), done.text
    assert SECRET not in done.text
    return done.text


# --- every field that names a path

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


def linked(*chain: Path) -> str:
    """Make a chain of links and return the name of the first."""
    for link, target in itertools.pairwise(chain):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
    return str(chain[0])


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
    (project / "file").write_text(SECRET)
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
    (outside.parent / "beyond").write_text(SECRET)
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


# --- links and special files among the declarations

FILES = [
    "fleet.yaml",
    "clients/acme.yaml",
    "more.yml",
    "fleet.lock",
    "calibration/a.json",
    "demand.recorded.json",
]


@pytest.mark.parametrize("name", ["clients/acme.yaml", "more.yml", "deep/er/x.yaml", "config.yaml"])
def test_a_declaration_that_is_a_link_outside_is_refused(
    project: Path, outside: Path, name: str
) -> None:
    linked(*_parents(project / name), outside / "more.yaml")
    assert name in refused(project)
    refused(project, "fmt", "--check")


def _parents(path: Path) -> tuple[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return (path,)


@pytest.mark.parametrize("name", ["clients", "deep/er"])
def test_a_folder_that_is_a_link_outside_is_not_looked_into(
    project: Path, outside: Path, name: str
) -> None:
    linked(*_parents(project / name), outside)
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
    linked(*_parents(project / "env" / f"{name}.yaml"), outside / "more.yaml")
    done = call(project, "--env", name, "validate")
    assert (done.code, "FC1285" in done.text) == (1, True)
    assert SECRET not in done.text


@pytest.mark.parametrize("name", ["fleet.lock", "calibration/a.json"])
def test_what_fleetctl_keeps_in_the_project_is_no_link_outside(
    project: Path, outside: Path, name: str
) -> None:
    linked(*_parents(project / name), outside / "secret")
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
    (path,) = _parents(project / target)
    kind(path)
    if target.startswith("golden"):
        with_client(project)
    done = call(project, "validate")
    assert done.code == 1
    assert "FC1286" in done.text or "FC1285" in done.text, done.text
    assert target in done.text


@pytest.mark.parametrize("path", ["/proc/self/environ", "/dev/zero", "/dev/stdin", "/proc/1/maps"])
def test_special_files_are_refused_where_declared_even_if_all_is_trusted(
    project: Path, path: str
) -> None:
    for field in ("golden", "key", "schema", "template", "library", "model"):
        FIELDS[field](project, path)
        refused(project, code="FC1286")


def test_a_command_on_special_files_ends_within_its_limits(project: Path) -> None:
    os.mkfifo(project / "more.yaml")
    linked(*_parents(project / "clients"), Path("/proc"))
    done = limited(project, "validate")
    assert (done.code, "FC1286" in done.text) == (1, True), done.text


# --- the library


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
    (path,) = _parents(source / part)
    path.unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(outside / "secret" if kind == "link outside" else "adapter_config.json")
    done = call(project, "adapter", "add", str(source), "--as", "acme-support-tiny-v1.0.0")
    assert (done.code, "FC1288" in done.text) == (1, True), done.text
    assert part in done.text
    assert SECRET not in done.text
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
            linked(*_parents(place.parent), elsewhere.parent)
        case "version":
            linked(*_parents(place), elsewhere)
        case _:
            adapter(place)
            (place / "adapter_config.json").unlink()
            linked(place / "adapter_config.json", elsewhere / "adapter_config.json")
    done = call(project, "adapter", "add", str(place), "--as", "acme-support-tiny-v1.0.0")
    assert done.code == 1
    assert "FC1288" in done.text or "FC1285" in done.text, done.text


# --- values from the environment

FILLED = {
    "a URL": 'hosts: {h: {engine: attach, servers: {s: {url: "http://x y/${env:CANARY}", '
    "base: tiny, max_loras: 1, max_lora_rank: 8}}}}\n",
    "a choice": 'rollouts: {r: {when_unsure: "${env:CANARY}"}}\n',
    "a number": 'defaults: {keep_versions: "${env:CANARY}"}\n',
    "a duration": 'evals: {every: "${env:CANARY}"}\n',
    "a name": 'defaults: {tier: "${env:CANARY}"}\n',
    "a reference": 'rollouts: {r: {gates: ["${env:CANARY}"]}}\n',
    "a time zone": 'rollouts: {r: {timezone: "${env:CANARY}"}}\n',
    "a path": 'library: "/outside/${env:CANARY}"\n',
    "a long text": 'evals: {every: "0123456789012345678901234567${env:CANARY}"}\n',
    "a part": 'hosts: {h: {address: "a${env:CANARY}b", port: x}}\n',
    "a listening address": 'gateways: {g: {listen: "${env:CANARY}"}}\n',
    "a version": 'required_version: "${env:CANARY}"\n',
    "a day": 'overrides: {o: {accept: x, alias: y, reason: r, by: b, until: "${env:CANARY}"}}\n',
}


@pytest.mark.parametrize("text", FILLED.values(), ids=FILLED)
def test_no_error_shows_what_the_environment_filled_in(
    project: Path, canary: str, text: str
) -> None:
    declare(project, text)
    for command in (("validate",), ("validate", "--format", "json"), ("plan",), ("config", "show")):
        done = call(project, *command)
        assert done.code == 1, done.text
        for size in range(12, len(canary)):
            assert canary[:size] not in done.text, done.text


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("origin", [True, False])
def test_the_values_in_force_show_placeholders(
    project: Path, canary: str, form: str, *, origin: bool
) -> None:
    declare(
        project,
        'evals: {command: [run, "--token=${env:CANARY}"]}\n'
        'hosts: {h: {engine: local, python: "${env:CANARY}/python", address: "${env:CANARY}", '
        "devices: {cpu0: {kind: cpu, memory: 6GiB}}}}\n",
    )
    options = ("--origin",) if origin else ()
    done = call(project, "config", "show", "--format", form, *options)
    assert done.code == 0, done.text
    assert canary not in done.text
    assert done.text.count("${env:CANARY}") == 3
