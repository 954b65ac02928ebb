"""Inputs that would hang or end a command: each is refused by its size, depth or kind."""

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.codec import MOST_VALUES, decode_json
from fleet.config import check_project, parse
from fleet.errors import ConfigError, FleetError
from fleet.names import Stamps, Version, by_number
from fleet.resources import format_of
from fleet.vllm import release
from fleetctl.synthetic import SyntheticSize, synthesise
from runtime.files import open_plain, read_plain, read_text
from runtime.library.inspect import read_config, read_header
from runtime.project.load import load_project, read_files, read_tree
from tests.attacks.conftest import HOST, call, declare

MB = 2 * 10**5
"""A fifth of a megabyte: the texts have a fifth of the size that is promised to be refused."""
YAML = {
    "list": "a:\n" + "- x\n" * (5 * MB // 2),
    "flow": "a: [" + "x," * (5 * MB) + "]\n",
    "odd numbers": "a: [" + "0x1," * (5 * MB // 2) + "]\n",
    "anchored list": "a: &x\n" + "- x\n" * (5 * MB // 2),
    "anchors": "".join(f"k{index}: &a{index} x\n" for index in range(60_000)),
    "merge keys": "a: &a {x: 1}\n" + "k: {<<: *a}\n" * 80_000,
    "open brackets": "a: " + "[" * (10 * MB),
    "open maps": "a: " + "{a: " * (5 * MB // 2),
    "dashes": "- " * (5 * MB),
    "questions": "? a\n" * (5 * MB // 2),
    "comments": "#x\n" * (3 * MB) + "a: 1\n",
    "empty lines": "\n" * (10 * MB),
    "folded": "a: >\n" + "  x y z\n" * (5 * MB // 4),
    "a key given twice": "a: x\n" * (2 * MB),
    "numbers as keys": "1: x\n" * (2 * MB),
    "documents": "---\na: 1\n" * MB,
    "tags": "k: !!str x\n" * MB,
    "a digit": "a: " + "1" * (10 * MB),
    "a hexadecimal number": "a: 0x" + "f" * (10 * MB),
    "an exponent": "a: 1e" + "9" * (10 * MB) + "_0",
    "base sixty": "a: 1" + ":1" * (5 * MB),
    "underscores": "a: 1" + "_1" * (5 * MB),
    "an anchored text": "a: &x " + "x" * (10 * MB),
    "a control character": "a: x\n" * (2 * MB) + "\x01",
    "dashes under dashes": ("- " * 39 + "a\n") * 25_000,
    "placeholders": "a: " + "${var.x}" * MB,
    "half of a map": "a: {" + "b: " * (3 * MB),
    "quotes": 'a: "' + '""' * (5 * MB),
    "problems": "".join(f"k{index}: x\nk{index}: y\n" for index in range(60_000)),
    "bad keys": "".join(f"{index}: x\n" for index in range(120_000)),
    "80 levels": "".join(f"{' ' * depth}a:\n" for depth in range(80)),
    "1,000 brackets": "a: " + "[" * 1000 + "]" * 1000,
    "100,000 digits in a small file": "a: " + "7" * 60_000,
    "a small hexadecimal number": "a: 0x" + "f" * 60_000,
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in YAML.items()])
def test_hostile_yaml_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_tree({"fleet.yaml": text}, None, {"x": "y" * 100})
    assert 1 <= len(refused.value.diagnostics) <= 100
    assert all(found.place for found in refused.value.diagnostics)
    assert sum(len(f"{found}") for found in refused.value.diagnostics) < MB


_CHILD = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from fleetctl.cli import main
try:
    main(["-C", sys.argv[2], "validate"])
finally:
    # `ru_maxrss` would be that of the process that made this one, where that had more.
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(1024 * int(line.split()[1]) for line in lines if "VmHWM" in line), file=sys.stderr)
"""


@pytest.mark.parametrize("name", ["list", "an anchored text", "problems"])
def test_validate_takes_under_300_mb_for_10_mb_of_hostile_yaml(name: str, tmp_path: Path) -> None:
    text = YAML[name] * (1 if name == "problems" else 5)
    (tmp_path / "fleet.yaml").write_text(text, encoding="utf-8")
    assert "Error: " in _refused(tmp_path, 300 * 2**20)


def _refused(root: Path, space: int) -> str:
    """Return what `validate` says in a bounded address space; memory stays under 300 MB."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(space), str(root)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert int(done.stderr.splitlines()[-1]) < 300 * 2**20
    return done.stdout + done.stderr


def test_wrong_keys_without_number_end_the_check(tmp_path: Path) -> None:
    lines = "".join(f"k{index}: {'x' * 70}\n" for index in range(70_000))
    (tmp_path / "fleet.yaml").write_text(f"fleet: a\n{lines}", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_project(tmp_path, None, {})
    assert len(refused.value.diagnostics) == 1000


def test_keys_of_the_readers_own_are_not_counted_as_wrong(tmp_path: Path) -> None:
    lines = "".join(f"  c{index}: {{x-owner: somebody}}\n" for index in range(1500))
    (tmp_path / "fleet.yaml").write_text(f"fleet: a\nclients:\n{lines}", encoding="utf-8")
    assert len(load_project(tmp_path, None, {}).declarations.clients) == 1500


@pytest.mark.long
def test_wrong_keys_in_many_files_take_under_300_mb(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("fleet: a\n", encoding="utf-8")
    for file in range(10):
        lines = "".join(f" c{index}x{file}:\n  adaptors: {'x' * 65}\n" for index in range(12_000))
        (tmp_path / f"{file}.yaml").write_text(f"clients:\n{lines}", encoding="utf-8")
    assert "Unknown key" in _refused(tmp_path, 512 * 2**20)


def test_files_that_are_large_only_together_are_refused() -> None:
    items = "- x\n" * 100_000
    with pytest.raises(ConfigError, match="values"):
        check_project({f"{index}.yaml": f"a{index}:\n{items}" for index in range(11)})
    anchored = "a: &x b\n" * 7000
    with pytest.raises(ConfigError, match="anchors"):
        check_project({f"{index}.yaml": anchored for index in range(6)})


def test_a_fleet_of_10_000_adapters_is_not_too_large() -> None:
    files, _ = synthesise(SyntheticSize(clients=2000, adapters=10_000, gpus=1000, seed=1))
    texts = {name: text for name, text in files.items() if name.endswith(".yaml")}
    check_project(texts)
    assert len(texts["fleet.yaml"]) > 64 << 10
    assert "tiers" in parse(texts["fleet.yaml"], "fleet.yaml").value


@pytest.mark.parametrize("value", ["90d", "24h", "1.2.3.4", "2031-05-01", "7b", "0f", "8-9"])
def test_a_text_that_begins_with_a_digit_is_no_odd_number(value: str) -> None:
    lines = "".join(f"k{index}: x\n" for index in range(10_000))
    assert parse(f"{lines}odd: {value}\n", "f.yaml").value["odd"] == value


def test_a_document_start_above_the_only_document_is_no_odd_text() -> None:
    text = "# a comment\n---\n" + "".join(f"k{index}: x\n" for index in range(20_000))
    assert len(parse(text, "f.yaml").value) == 20_000


def special(kind: str, folder: Path) -> Path:
    """Make a file that is no plain file."""
    path = folder / "special"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        case "folder":
            path.mkdir()
        case "link to itself":
            path.symlink_to(path)
        case _:
            path.symlink_to(kind)
    return path


SPECIAL = ("fifo", "socket", "folder", "link to itself", "/dev/zero", "/dev/random", "/dev/tty")


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("read", [read_plain, open_plain, read_header, read_text])
def test_what_is_no_plain_file_is_not_opened(kind: str, read: object, tmp_path: Path) -> None:
    with pytest.raises((OSError, FleetError)):
        read(special(kind, tmp_path))  # type: ignore[operator]


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("place", ["fleet.yaml", "clients/a.yaml"])
def test_a_declaration_that_is_no_plain_file_is_refused(
    kind: str, place: str, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    (root / place).parent.mkdir(parents=True)
    special(kind, tmp_path).rename(root / place)
    if place != "fleet.yaml":
        (root / "fleet.yaml").write_text("fleet: a\n", encoding="utf-8")
    with pytest.raises(ConfigError):
        read_files(root, None)


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(1 << 40)  # a sparse file
    with pytest.raises(OSError, match="Larger than 128 MiB"):
        read_plain(large)
    with pytest.raises(OSError, match="Larger than 1 MiB"):
        read_plain(large, 1 << 20)


def test_a_file_without_a_size_is_read_up_to_the_limit() -> None:
    assert read_plain(Path("/proc/self/status")).startswith(b"Name:")
    with pytest.raises(OSError, match="Larger"):
        read_plain(Path("/proc/self/status"), 100)


JSON = {
    "deep lists": "[" * 100_000,
    "deep and closed": "[" * 50_000 + "]" * 50_000,
    "deep maps": '{"a":' * 100_000,
    "many values": "[" + "1," * MOST_VALUES + "1]",
    "many digits": "1" * 1_000_000,
    "half": '{"a": ',
    "nothing": "",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in JSON.items()])
def test_hostile_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json(text)
    with pytest.raises(ValueError, match=r"."):
        decode_json(text.encode())


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in JSON.items()])
def test_an_adapters_hostile_configuration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(FleetError, match="Not JSON"):
        read_config(tmp_path)


def test_the_limit_of_memory_is_one_that_this_machine_keeps() -> None:
    assert resource.getrlimit(resource.RLIMIT_AS)[1] in {resource.RLIM_INFINITY, -1}


DIGITS = "7" * 5_000
"""More digits than Python makes a number of."""


def test_names_and_versions_with_many_digits_are_read_or_none(project: Path) -> None:
    assert sorted([f"gpu{DIGITS}", "gpu10", "gpu2"], key=by_number)[:2] == ["gpu2", "gpu10"]
    assert release(f"{DIGITS}.1.1") == release(f"0.{DIGITS}.1") == release("")
    assert format_of(f"{DIGITS}.abc") == int(DIGITS[:9])
    assert Stamps.among([f"fleetctl-{DIGITS}.0123456789ab"]).digest is None
    with pytest.raises(ValueError, match="not a version"):
        Version.parse(f"1.0.{DIGITS}")
    adapter = f'clients: {{acme: {{adapters: {{a: {{base: tiny, version: "1.0.{DIGITS}"}}}}}}}}\n'
    declare(project, adapter + HOST.replace("fake", f'fake\n    vllm: "{DIGITS}.1.1"'))
    done = call(project, "validate")
    assert (done.code, "FC1104" in done.text, "FC1311" in done.text) == (1, True, False)
