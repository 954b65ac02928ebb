"""Attached servers with TLS that demand a client certificate: planned, served, watched."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.hardware import ServerTls
from runtime.json_client import SERVER_TLS
from runtime.server_tls import TlsToServer
from tests.certificates import Authority
from tests.fleetctl.hand_started import answer, hand_started
from tests.fleetctl.imported_fleet import NAME, ImportedFleet
from tests.fleetctl.in_process import call
from tests.fleetctl.machines.test_server_keys import status


class Attached(ImportedFleet):
    """A server of others behind TLS, and the fleet that has it attached."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "agency")
        pki = folder / "pki"
        self.servers, self.clients = Authority(pki, "servers"), Authority(pki, "clients")
        self.strangers = Authority(pki / "strangers", "strangers")
        self.pair = self.clients.issue("fleetctl")
        self.tls = TlsToServer(ServerTls(self.servers.ca, *self.pair), self.project.root)

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of vLLM for a server that demands a certificate."""
        certificate, key = self.servers.issue("server")
        return ("--ssl-certfile", certificate, "--ssl-keyfile", key,
                "--ssl-ca-certs", self.clients.ca, "--ssl-cert-reqs", "2")  # fmt: skip

    def declare(self, ca: str, pair: tuple[str, str] | None) -> None:
        """Declare the authority of the server and the certificate that it is shown."""
        shown = f", certificate: {pair[0]}, key: {pair[1]}" if pair else ""
        line = f"        tls: {{ca: {ca}{shown}}}"
        lines = [its for its in self.declared.read_text("utf-8").splitlines() if "tls:" not in its]
        at = next(place for place, its in enumerate(lines) if "max_lora_rank" in its)
        self.declared.write_text("\n".join([*lines[:at], line, *lines[at:]]) + "\n", "utf-8")

    def seen_by_gateway(self) -> str:
        """Return what the gateway says of servers that are down, once it says so."""
        deadline = time.monotonic() + 30
        while "is down (" not in (shown := call(self.project, "gateway", "status").stdout):
            assert time.monotonic() < deadline, shown
        return shown


@contextmanager
def fleet_of(folder: Path, python: Path | None) -> Iterator[Attached]:
    """Run a server that demands a certificate, and apply a fleet of it with its gateway."""
    made = Attached(folder)
    with hand_started(
        folder / "theirs", python, (NAME,), flags=made.flags, tls=made.tls
    ) as made.server:
        try:
            made.work(f"import {made.server}")
            SERVER_TLS.clear()  # from now on the declarations say how the server is reached
            made.take_port()
            made.declare(made.servers.ca, made.pair)
            refused = call(made.project, "plan")
            assert (refused.returncode, "FC1285" in refused.stderr) == (1, True)
            for words in (f"trust add {folder / 'pki'}", "key create --all", "apply --auto --yes"):
                made.work(words)
            made.work("gateway start")
            yield made
        finally:
            call(made.project, "gateway", "stop")
            SERVER_TLS.clear()


@pytest.fixture(scope="module")
def attached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attached]:
    """The fleet of a fake server; tests leave it as it was."""
    with fleet_of(tmp_path_factory.mktemp("attached"), None) as made:
        yield made


@pytest.mark.live
@pytest.mark.long
def test_a_real_vllm_that_demands_a_certificate_answers(tmp_path: Path, vllm_python: Path) -> None:
    with fleet_of(tmp_path, vllm_python) as made:
        test_clients_are_answered_and_the_server_refuses_who_shows_no_certificate(made)


def test_clients_are_answered_and_the_server_refuses_who_shows_no_certificate(
    attached: Attached,
) -> None:
    through = asyncio.run(answer(attached.gateway, NAME, attached.key))
    assert attached.ask() == 200
    assert status(f"{attached.server}/v1/models", "") == 0
    SERVER_TLS[attached.server] = attached.tls
    assert asyncio.run(answer(attached.server, NAME)) == through
    SERVER_TLS.clear()
    assert attached.work("plan --detailed-exitcode").returncode == 0
    assert "tls" not in call(attached.project, "drift").stdout


def test_a_rollback_without_declarations_reaches_the_server(attached: Attached) -> None:
    hidden = attached.declared.rename(attached.project.root / "hidden")
    SERVER_TLS.clear()
    try:
        call(attached.project, "rollback", NAME)
        assert [*SERVER_TLS] == [attached.server]
    finally:
        hidden.rename(attached.declared)


def test_a_tls_that_left_the_declarations_is_used_no_more(attached: Attached) -> None:
    before = attached.declared.read_text("utf-8")
    assert "unknown" not in call(attached.project, "drift").stdout
    lines = [line for line in before.splitlines() if " tls: " not in line]
    attached.declared.write_text("\n".join(lines), encoding="utf-8")
    drift = call(attached.project, "drift")  # in the process of the look before, as of `watch`
    attached.declared.write_text(before, encoding="utf-8")
    assert "its certificate is not accepted by this machine" in drift.stdout
    assert attached.work("plan --detailed-exitcode").returncode == 0


@pytest.mark.parametrize("fault", ["no certificate", "another authority"])
def test_a_server_that_cannot_be_reached_is_shown_with_the_reason(
    attached: Attached, fault: str
) -> None:
    ca, pair, said = {
        "no certificate": (attached.servers.ca, None, "(none was shown)"),
        "another authority": (attached.strangers.ca, attached.pair, "not accepted by the `ca`"),
    }[fault]
    attached.declare(ca, pair)
    SERVER_TLS.clear()
    try:
        drift = call(attached.project, "drift")
        assert drift.returncode == 2
        assert said in drift.stdout
        assert "gateway/main: runs with the `tls` of " in drift.stdout
        assert attached.ask() == 200  # the gateway goes by the declaration of before
        attached.restart_gateway()
        assert attached.ask() == 503
        assert said in attached.seen_by_gateway()
        assert "gateway/main" not in call(attached.project, "drift").stdout
    finally:
        attached.declare(attached.servers.ca, attached.pair)
        attached.restart_gateway()
        SERVER_TLS.clear()
    assert attached.ask() == 200


def test_a_file_that_is_not_there_is_named(attached: Attached) -> None:
    gone = f"{attached.pair[0]}.gone"
    attached.declare(attached.servers.ca, (gone, attached.pair[1]))
    try:
        drift = call(attached.project, "drift")
        assert f"`{gone}` of its `tls` cannot be read: No such file" in drift.stdout
        attached.restart_gateway()
        assert attached.ask() == 503
        assert f"down (`{gone}` of its `tls` cannot be read" in attached.seen_by_gateway()
    finally:
        attached.declare(attached.servers.ca, attached.pair)
        attached.restart_gateway()


def test_a_clients_certificate_is_exchanged_while_the_gateway_runs(attached: Attached) -> None:
    for new, old in zip(attached.strangers.issue("next"), attached.pair, strict=True):
        Path(new).replace(old)
    assert "another client certificate" in attached.seen_by_gateway()
    assert attached.clients.issue("fleetctl") == attached.pair
    deadline = time.monotonic() + 30
    while "is down" in (shown := call(attached.project, "gateway", "status").stdout):
        assert time.monotonic() < deadline, shown
    assert attached.ask() == 200


@pytest.mark.parametrize("target", ["envoy", "litellm"])
def test_nothing_is_compiled_for_gateways_that_know_no_tls(attached: Attached, target: str) -> None:
    done = call(attached.project, "compile", "--target", target)
    assert (done.returncode, "FC1269" in done.stderr) == (1, True)
    before = attached.declared.read_text("utf-8")
    attached.declared.write_text(before.replace("listen:", "kind: envoy, listen:"), "utf-8")
    refused = call(attached.project, "validate")
    attached.declared.write_text(before, encoding="utf-8")
    assert (refused.returncode, "FC1269" in refused.stderr) == (1, True)


@pytest.mark.parametrize("engine", ["lm_eval", "inspect", "command"])
def test_evaluations_by_programs_that_know_no_tls_are_refused(
    attached: Attached, engine: str, tmp_path: Path
) -> None:
    golden = tmp_path / "golden.jsonl"
    golden.write_text('{"id": "one", "input": "Hello?", "expected": "x"}\n', encoding="utf-8")
    words = ("eval", "run", NAME, "--golden", str(golden), "--through", "server", "--engine")
    refused = call(attached.project, *words, engine)
    assert (refused.returncode, "FC4535" in refused.stderr) == (1, True), refused.stderr
    assert call(attached.project, *words, "native", "--format", "json").returncode == 0
