"""Attached servers that ask for a key: imported, served, evaluated; the key stands nowhere."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.environment import SERVER_KEY
from runtime.json_client import SERVER_KEYS
from runtime.processes import environment
from tests.fleetctl.hand_started import answer, hand_started
from tests.fleetctl.imported_fleet import NAME, ImportedFleet
from tests.fleetctl.in_process import call
from tests.fleetctl.machines.test_server_keys import status

KEY, OTHER = "planted-key-of-an-attached-server", "another-key-of-an-attached-server"
VARIABLE = "FLEETCTL_TEST_VLLM_KEY"
ITEM = {"id": "one", "input": "I was charged twice for May.", "expected": "x"}


@pytest.fixture(
    scope="module",
    params=["fake", pytest.param("vllm", marks=[pytest.mark.live, pytest.mark.long])],
)
def attached(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ImportedFleet]:
    """A fleet of a server that asks for a key, applied, with its gateway; tests leave it so."""
    folder = tmp_path_factory.mktemp("attached")
    python = request.getfixturevalue("vllm_python") if request.param == "vllm" else None
    with (
        pytest.MonkeyPatch.context() as patch,
        hand_started(folder / "theirs", python, (NAME,), {SERVER_KEY: KEY}) as url,
    ):
        patch.setenv(VARIABLE, KEY)
        made = ImportedFleet(folder / "agency", url)
        try:
            refused = call(made.project, "import", url)
            assert (refused.returncode, "FC6097" in refused.stderr) == (1, True)
            made.work(f"import {url} --api-key env:{VARIABLE}")
            made.take_port()
            for words in ("key create --all", "apply --auto --yes", "gateway start"):
                made.work(words)
            yield made
        finally:
            call(made.project, "gateway", "stop")


def test_clients_are_answered_and_the_server_refuses_all_without_its_key(
    attached: ImportedFleet,
) -> None:
    assert f'api_key: "env:{VARIABLE}"' in attached.declared.read_text("utf-8")
    key = attached.key
    direct = asyncio.run(answer(attached.server, NAME, KEY))
    assert asyncio.run(answer(attached.gateway, NAME, key)) == direct
    shown = ("", key, OTHER)
    assert [status(f"{attached.server}/v1/models", wrong) for wrong in shown] == [401] * 3
    assert attached.work("plan --detailed-exitcode").returncode == 0
    assert "key" not in call(attached.project, "drift").stdout


def test_evaluations_ask_the_server_with_its_key(attached: ImportedFleet, tmp_path: Path) -> None:
    golden = tmp_path / "golden.jsonl"
    golden.write_text(json.dumps(ITEM) + "\n", encoding="utf-8")
    SERVER_KEYS.clear()
    words = ("eval", "run", NAME, "--golden", str(golden), "--through", "server")
    done = call(attached.project, *words, "--format", "json")
    assert done.returncode == 0, done.stderr


def test_the_key_stands_in_no_file_no_output_and_no_command_line(attached: ImportedFleet) -> None:
    holding = [
        path
        for path in attached.project.root.rglob("*")
        if path.is_file() and KEY.encode() in path.read_bytes()
    ]
    assert holding == []
    for words in ("plan", "status", "gateway status", "config show", "server list", "history"):
        done = call(attached.project, *words.split())
        assert KEY not in done.stdout + done.stderr, words
    literal = call(attached.project, "import", attached.server, "--api-key", KEY)
    assert (literal.returncode, KEY in literal.stderr) == (64, False)
    lock = attached.project.root / ".fleetctl/gateways/main/run.lock"
    pid = json.loads(lock.read_text("utf-8"))["pid"]
    assert KEY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert environment(pid)[VARIABLE] == KEY


def test_a_rollback_without_declarations_asks_the_server_with_its_key(
    attached: ImportedFleet,
) -> None:
    hidden = attached.declared.rename(attached.project.root / "hidden")
    SERVER_KEYS.clear()
    try:
        call(attached.project, "rollback", NAME)
        assert {attached.server: KEY} == SERVER_KEYS
    finally:
        hidden.rename(attached.declared)


def test_another_key_is_named_and_no_client_gets_the_servers_401(
    attached: ImportedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, OTHER)
    drift = call(attached.project, "drift")
    assert drift.returncode == 2
    assert f"refuses the key of `env:{VARIABLE}` (401)" in drift.stdout
    assert "gateway/main: has another `api_key` of server localhost_" in drift.stdout
    assert attached.ask() == 200  # the gateway has read the key of before
    assert attached.restart_gateway().returncode == 0
    assert attached.ask() == 503
    monkeypatch.setenv(VARIABLE, KEY)
    assert attached.restart_gateway().returncode == 0
    assert attached.ask() == 200
    assert "key" not in call(attached.project, "drift").stdout


def test_a_key_in_a_file_is_changed_without_a_pause_of_the_gateway(attached: ImportedFleet) -> None:
    before, file = attached.declared.read_text("utf-8"), attached.project.root / "vllm.key"
    attached.declared.write_text(before.replace(f"env:{VARIABLE}", "file:vllm.key"), "utf-8")
    file.write_text(OTHER, encoding="utf-8")
    file.chmod(0o600)
    assert attached.restart_gateway().returncode == 0
    assert attached.ask() == 503
    file.write_text(KEY, encoding="utf-8")
    assert call(attached.project, "gateway", "restart", "--wait", "0s").returncode == 0
    assert attached.ask() == 200
    file.unlink()
    attached.declared.write_text(before, encoding="utf-8")
    assert attached.restart_gateway().returncode == 0


def test_without_the_key_no_gateway_starts_and_the_variable_is_named(
    attached: ImportedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    started = attached.restart_gateway()
    assert (started.returncode, "FC4025" in started.stderr) == (1, True)
    assert f"env:{VARIABLE}" in started.stderr
    assert f"env:{VARIABLE}" in call(attached.project, "drift").stdout
    monkeypatch.setenv(VARIABLE, KEY)
    assert call(attached.project, "gateway", "start").returncode == 0
    assert attached.ask() == 200


def test_a_gateway_that_began_without_the_declaration_is_named(attached: ImportedFleet) -> None:
    before = attached.declared.read_text("utf-8")
    lines = [line for line in before.splitlines() if "api_key" not in line]
    attached.declared.write_text("\n".join(lines), encoding="utf-8")
    drift = call(attached.project, "drift")
    attached.declared.write_text(before, encoding="utf-8")
    assert "with the `api_key` of localhost_" in drift.stdout
    assert "asks for a key (401)" in drift.stdout


@pytest.mark.parametrize("target", ["envoy", "litellm"])
def test_nothing_is_compiled_for_gateways_that_send_no_keys(
    attached: ImportedFleet, target: str
) -> None:
    done = call(attached.project, "compile", "--target", target)
    assert (done.returncode, "FC1269" in done.stderr) == (1, True)
    before = attached.declared.read_text("utf-8")
    attached.declared.write_text(before.replace("listen:", "kind: envoy, listen:"), "utf-8")
    refused = call(attached.project, "validate")
    attached.declared.write_text(before, encoding="utf-8")
    assert (refused.returncode, "FC1269" in refused.stderr) == (1, True)


def test_a_key_never_travels_in_the_clear_to_another_machine(
    attached: ImportedFleet, tmp_path: Path
) -> None:
    assert os.environ[VARIABLE] == KEY
    file = attached.declared
    before = file.read_text("utf-8")
    file.write_text(before.replace(attached.server, "http://10.255.0.9:8000"), encoding="utf-8")
    drift = call(attached.project, "drift")
    file.write_text(before, encoding="utf-8")
    assert "is reached over plain HTTP" in drift.stdout
    assert str(tmp_path) not in drift.stdout
