"""What a shell completes: names from files, nothing where a file is broken, nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from fleetctl.cli import main_group
from tests.fleetctl.project_on_disk import QUICKSTART, REPOSITORY

TABLE = """{"digest": "0", "revision": 3, "servers": {"tiny-laptop-cpu0": "http://127.0.0.1:1"},
"aliases": {"acme-billing": {}}, "keys": {"acme/prod": {}}}"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The quickstart's declarations, with a route that the lock does not know and a server."""
    for name in ("fleet.yaml", "fleet.lock", "clients/acme.yaml", "clients/birch.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((QUICKSTART / name).read_bytes())
    state = tmp_path / ".fleetctl"
    for name in ("servers/spare/launch.json", "gateways/main/gateway.json", "routes.json"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text(TABLE if name == "routes.json" else "{}", encoding="utf-8")
    return tmp_path


def completed(root: Path, *words: str) -> list[str]:
    """Return what is offered for the last word."""
    shell = ShellComplete(main_group, {}, "fleetctl", "_FLEETCTL_COMPLETE")
    *before, last = words
    found = shell.get_completions(["-C", str(root), *before], last)
    return [item.value for item in found if item.type == "plain"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("rollback acme-b", ["acme-billing"]),
        ("rollback acme-support --to 2.", ["2.1.0", "2.2.0", "2.3.0", "2.4.0"]),
        ("release acme-s", ["acme-support"]),
        ("rollout hold birch-", ["birch-units"]),
        ("eval run acme-support-tiny-v2.1", ["acme-support-tiny-v2.1.0"]),
        ("eval run acme-triage --version ", ["1.0.0"]),
        ("evidence list acme-t", ["acme-triage", "acme-triage-tiny-v1.0.0"]),
        ("adapter list bir", ["birch", "birch-units"]),
        ("adapter show acme-triage", ["acme-triage-tiny-v1.0.0"]),
        ("explain server/", ["server/spare", "server/tiny-laptop-cpu0"]),
        ("explain key/", ["key/acme/prod"]),
        ("history acme-t", ["acme-triage"]),
        ("server logs ", ["spare"]),
        ("calibrate ", ["spare", "tiny-laptop-cpu0"]),
        ("gateway stop ", ["main"]),
        ("usage summary --client b", ["birch"]),
        ("usage show --alias acme-b", ["acme-billing"]),
        ("key create ", ["acme/prod", "birch/prod"]),
        ("rel", ["release"]),
        ("rollout pau", ["pause"]),
        ("nosuch x", []),
    ],
)
def test_names_are_offered(root: Path, words: str, offered: list[str]) -> None:
    found = completed(root, *words.split(" "))
    assert found == offered


@pytest.mark.parametrize("name", ["fleet.yaml", "fleet.lock", ".fleetctl/routes.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[1, 2", b'{"adapters": 7}', b"[" * 5_000])
def test_a_broken_file_completes_to_nothing(root: Path, name: str, content: bytes) -> None:
    (root / name).write_bytes(content)
    for words in (("rollback", "acme-b"), ("adapter", "show", "acme"), ("key", "create", "")):
        completed(root, *words)
    for path in (
        root / "fleet.yaml",
        root / "fleet.lock",
        root / ".fleetctl" / "routes.json",
    ):
        path.unlink()
    assert completed(root, "explain", "a") == []
    assert completed(root, "key", "create", "") == []


def test_completion_writes_nothing(root: Path) -> None:
    (root / "clients" / "many.yaml").write_text(
        "x-filler: [" + "word, " * 20_000 + "word]\n", encoding="utf-8"
    )
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert completed(root, "key", "create", "acme") == ["acme/prod"]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_bash_gets_the_names_and_only_the_command_that_is_typed_is_imported(root: Path) -> None:
    code = (
        "import atexit, sys; from fleetctl.cli import main;"
        "atexit.register(lambda: print(sorted(name for name in sys.modules if "
        "name.startswith('fleetctl.commands.') or name in ('pydantic', 'asyncio'))));"
        "main()"
    )
    words = f"fleetctl -C {root} rollback acme-s"
    shell = {"_FLEETCTL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=os.environ | shell,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["plain,acme-support", "['fleetctl.commands.rollback']"]
    assert done.stderr == ""
