"""The file that the plug-in answers by, and which interpreters have the plug-in."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from fleet.errors import EngineError
from runtime.engines.adapters_file import AdapterEntry, AdaptersFile, adapters_path, has_resolver
from runtime.engines.launch_records import LaunchRecords
from runtime.vllm_plugin.fleetctl_resolver.adapters import UntrustedAdapterError, trusted_folder

ACME = AdapterEntry("/store/aa", "a" * 64)
BIRCH = AdapterEntry("/store/bb", "b" * 64)
RELEASE = Path(sys.executable).resolve().name


@pytest.fixture
def file(tmp_path: Path) -> AdaptersFile:
    return LaunchRecords(tmp_path / "servers").adapters("tiny-laptop-cpu0")


def test_what_was_added_and_not_removed_is_there(file: AdaptersFile) -> None:
    assert file.read() == {}
    file.add("acme-a-tiny-v1.0.0", ACME)
    file.add("birch-b-tiny-v1.0.0", BIRCH)
    file.add("birch-b-tiny-v1.0.0", BIRCH)
    assert file.read() == {"acme-a-tiny-v1.0.0": ACME, "birch-b-tiny-v1.0.0": BIRCH}
    file.remove("acme-a-tiny-v1.0.0")
    file.remove("acme-a-tiny-v1.0.0")
    assert file.read() == {"birch-b-tiny-v1.0.0": BIRCH}
    file.add("birch-b-tiny-v1.0.0", ACME)
    assert file.read() == {"birch-b-tiny-v1.0.0": ACME}
    file.replace({})
    assert file.read() == {}
    assert json.loads(file.path.read_bytes()) == {}


def test_the_plug_in_reads_what_fleetctl_writes(file: AdaptersFile) -> None:
    file.add('acme-"ä\n', ACME)
    assert trusted_folder(file.path, "acme") is None
    with pytest.raises(UntrustedAdapterError, match="/store/aa"):
        trusted_folder(file.path, 'acme-"ä\n')


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"path": "/x"}}', "\0"])
def test_a_malformed_file_holds_nothing_and_is_written_anew(file: AdaptersFile, text: str) -> None:
    file.replace({})
    file.path.write_text(text, encoding="utf-8")
    assert file.read() == {}
    file.add("acme-a-tiny-v1.0.0", ACME)
    assert file.read() == {"acme-a-tiny-v1.0.0": ACME}


def test_two_writers_at_the_same_time_lose_no_entry(file: AdaptersFile) -> None:
    names = [f"acme-a{number}-tiny-v1.0.0" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: file.add(name, ACME), names))
        assert set(file.read()) == set(names)
        list(pool.map(file.remove, names[::2]))
    assert set(file.read()) == set(names[1::2])


def test_a_file_that_cannot_be_written_is_an_error(file: AdaptersFile) -> None:
    file.path.parent.parent.mkdir()
    file.path.parent.write_text("not a folder", encoding="utf-8")
    for change in (
        partial(file.add, "a", ACME),
        partial(file.remove, "a"),
        partial(file.replace, {}),
    ):
        with pytest.raises(EngineError) as caught:
            change()
        assert caught.value.diagnostics[0].code == "FC4080"


def environment(root: Path, packages: str) -> Path:
    """Make an environment as `venv` does, with the plug-in in a folder of it."""
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python").symlink_to(sys.executable)
    (root / packages / "fleetctl_resolver-1.dist-info").mkdir(parents=True)
    return root / "bin" / "python"


@pytest.mark.parametrize(
    ("packages", "has"),
    [
        (f"lib/{RELEASE}/site-packages", True),
        (f"lib64/{RELEASE}/site-packages", True),
        (f"lib/{RELEASE}/dist-packages", True),
        ("lib/python3.9/site-packages", False),
        (f"lib/{RELEASE}/site-packages/other", False),
        ("elsewhere", False),
    ],
)
def test_the_plug_in_is_found_beside_its_interpreter(
    tmp_path: Path, packages: str, *, has: bool
) -> None:
    python = environment(tmp_path, packages)
    assert has_resolver(str(python)) is has
    path = adapters_path(tmp_path / "servers", "tiny", str(python), fake=False)
    assert path == (str(tmp_path / "servers" / "tiny" / "adapters.json") if has else "")


def test_an_interpreter_is_found_by_its_bare_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, f"lib/{RELEASE}/site-packages")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert has_resolver("python")


@pytest.mark.parametrize("python", ["/nowhere/bin/python", "no-such-python", "", sys.executable])
def test_other_interpreters_lack_the_plug_in(python: str) -> None:
    assert not has_resolver(python)
    assert adapters_path(Path("servers"), "tiny", python, fake=False) == ""
    assert Path(adapters_path(Path("servers"), "tiny", python, fake=True)).is_absolute()
