"""Secrets go to this machine, or to hosts that the operator confirmed for them."""

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.spec import GatewaySpec, JudgeSpec
from runtime import trust
from runtime.evals.context import through_gateway
from runtime.evals.judge import judge_client
from runtime.gateway.control.client import connect
from runtime.notify.delivery import deliver
from runtime.trust import Trust, UntrustedError, authorization, dump_trust, trust_path, write_trust
from tests.attacks.conftest import REPOSITORY, Listener, call, declare

SECRET = "env:AWS_SECRET_ACCESS_KEY"


def confirm(home: Path, hosts: dict[str, tuple[str, ...]]) -> None:
    trust_path().parent.mkdir(mode=0o700, exist_ok=True)
    write_trust(trust_path(), dump_trust(Trust(hosts=hosts)), home / "project")


def attached(url: str) -> str:
    return (
        "hosts: {far: {engine: attach, servers: "
        f'{{big: {{url: "{url}", base: tiny, max_loras: 4, max_lora_rank: 16}}}}}}}}\n'
    )


def gateway(admin: str, *more: str) -> str:
    rest = "".join(f", {part}" for part in more)
    return f'gateways: {{main: {{listen: "127.0.0.1:8080", admin: "{admin}"{rest}}}}}\n'


DECLARED = {
    "another secret to an admin side": gateway("http://evil.test:PORT", f"secret: {SECRET}"),
    "the same over TLS": gateway("https://evil.test:PORT", f"secret: {SECRET}"),
    "the operator's secret": gateway("http://evil.test:PORT"),
    "the operator's secret over TLS": gateway("https://evil.test:PORT"),
    "the operator's secret by its file": gateway(
        "https://evil.test:PORT", "secret: file:.fleetctl/operator.secret"
    ),
    "a user before the host": gateway("http://127.0.0.1@evil.test:PORT"),
    "a backslash before the host": gateway("http://127.0.0.1\\\\@evil.test:PORT"),
    "a variable in the path of an admin side": gateway(
        "http://evil.test:PORT/${env:CANARY}", f"secret: {SECRET}"
    ),
    "a server": attached("http://evil.test:PORT"),
    "a server over TLS": attached("https://evil.test:PORT/v1"),
    "a server with a variable in its path": attached("http://evil.test:PORT/${env:CANARY}"),
    "a server with a variable in its name": attached("http://${env:CANARY}.test:PORT"),
    "a server with a variable as its address": attached("${env:EVIL}"),
    "a server in capitals": attached("http://EVIL.test:PORT"),
    "the metadata service": attached("http://169.254.169.254/latest/meta-data"),
    "the metadata service over IPv6": attached("http://[fd00:ec2::254]/latest"),
    "a box of the network": attached("http://10.0.0.5:8000"),
    "a judge": "evals: {judge: {url: 'http://evil.test:PORT', model: m, key: '" + SECRET + "'}}\n",
    "a webhook": "notify: {webhook: 'http://evil.test:PORT/hook'}\n",
    "a webhook with a variable": "notify: {webhook: 'http://evil.test:PORT/${env:CANARY}'}\n",
}
COMMANDS = ("plan", "validate", "status", "drift", "config show", "gateway status", "graph")


@pytest.mark.parametrize("name", DECLARED)
def test_no_command_contacts_a_host_that_declarations_name_alone(
    name: str,
    project: Path,
    listener: Listener,
    canary: str,
    trust_home: Path,  # noqa: ARG001 (nothing is trusted)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVIL", f"http://evil.test:{listener.port}/{canary}")
    declare(project, DECLARED[name].replace("PORT", str(listener.port)))
    for command in COMMANDS:
        call(project, *command.split())
    assert listener.received == []


def test_the_refusal_of_a_plan_names_one_command_for_all_servers(
    project: Path, trust_home: Path
) -> None:
    servers = ", ".join(
        f'{name}: {{url: "http://10.255.255.{last}:8000", base: tiny, max_loras: 4, '
        "max_lora_rank: 16}"
        for name, last in (("a", 1), ("b", 2))
    )
    declare(project, f"hosts: {{far: {{engine: attach, servers: {{{servers}}}}}}}\n")
    done = call(project, "plan")
    command = "fleetctl trust add http://10.255.255.1:8000 http://10.255.255.2:8000"
    assert done.code == 0
    assert command in done.stderr
    assert call(project, *command.split()[1:]).code == 0
    assert trust_path().is_relative_to(trust_home)
    trusted = trust.load_trust().hosts
    assert trusted == {"10.255.255.1:8000": (), "10.255.255.2:8000": ()}


HOSTS: dict[str, tuple[str, ...]] = {
    "gw.test:443": ("operator",),
    "judge.test:8443": ("env:JUDGE", "file:keys/judge"),
    "seen.test:443": (),
    "plain.test:80": ("operator",),
}


@pytest.mark.parametrize(
    ("url", "reference", "code"),
    [
        ("https://gw.test", "operator", ""),
        ("https://gw.test:443/", "operator", ""),
        ("https://GW.TEST/admin", "operator", ""),
        ("https://judge.test:8443", "env:JUDGE", ""),
        ("https://judge.test:8443", "file:keys/judge", ""),
        ("http://127.0.0.1:9", "env:ANY", ""),
        ("http://[::1]:9", "env:ANY", ""),
        ("http://localhost:9", "operator", ""),
        ("http://gw.test", "operator", "FC1272"),
        ("http://gw.test:443", "operator", "FC1272"),
        ("http://plain.test", "operator", "FC1272"),
        ("http://evil.test", "operator", "FC1272"),
        ("https://gw.test", SECRET, "FC1271"),
        ("https://gw.test", "file:.fleetctl/operator.secret", "FC1271"),
        ("https://gw.test:444", "operator", "FC1271"),
        ("https://a.gw.test", "operator", "FC1271"),
        ("https://gw.test.evil.test", "operator", "FC1271"),
        ("https://evilgw.test", "operator", "FC1271"),
        ("https://gw.test.", "operator", "FC1271"),
        ("https://seen.test", "operator", "FC1271"),
        ("https://judge.test:8443", "file:keys/../keys/judge", "FC1271"),
        ("https://judge.test:8443", "env:judge", "FC1271"),
        ("https://169.254.169.254", "operator", "FC1271"),
        ("https://gw.test@evil.test", "operator", "FC1270"),
        ("https://gw.test\\@evil.test", "operator", "FC1270"),
        ("https://evil.test#gw.test", "operator", "FC1270"),
        ("https://gw.test\n", "operator", "FC1270"),
        ("gopher://gw.test", "operator", "FC1270"),
    ],
)
def test_a_secret_is_for_the_hosts_that_were_confirmed_for_it(
    url: str, reference: str, code: str, trust_home: Path, canary: str
) -> None:
    confirm(trust_home, HOSTS)
    if not code:
        assert authorization(url, reference, canary) == {"Authorization": f"Bearer {canary}"}
        return
    with pytest.raises(UntrustedError) as refused:
        authorization(url, reference, canary)
    assert refused.value.diagnostics[0].code == code
    assert canary not in str(refused.value)


def test_the_command_of_a_refusal_confirms_exactly_what_was_refused(trust_home: Path) -> None:
    reference = "file:$(touch${IFS}marker);'x"
    with pytest.raises(UntrustedError) as refused:
        authorization("https://gw.test:8443", reference, "s")
    command = refused.value.diagnostics[0].command
    assert command.startswith("fleetctl trust add https://gw.test:8443 --secret 'file:$(touch$")
    assert trust_home.is_dir()


@pytest.mark.parametrize(
    "value",
    ["a b", "a\nX-Admin: 1", "a\r\n\r\nGET / HTTP/1.1", "a\tb", "a\x00b", "schlüssel", "\x7f", "",
     "\u202ekey", "a" * 5000],
)  # fmt: skip
def test_a_value_that_is_no_token_is_refused_and_not_printed(value: str) -> None:
    with pytest.raises(UntrustedError) as refused:
        authorization("http://127.0.0.1:1", "env:KEY", value)
    assert refused.value.diagnostics[0].code == "FC1273"
    assert not value or value not in str(refused.value)


def test_a_file_that_is_no_secret_is_never_sent(project: Path, listener: Listener) -> None:
    (project / "private").write_text("first line\nsecond line\n")
    declare(project, gateway(f"http://127.0.0.1:{listener.port}", "secret: file:private"))
    done = call(project, "plan")
    assert "first line" not in done.text
    assert listener.received == []


def _refused(use: Any) -> FleetError:
    with pytest.raises(FleetError) as failed:
        use()
    return failed.value


def test_each_sender_of_a_secret_asks_first(
    project: Path,
    listener: Listener,
    canary: str,
    trust_home: Path,  # noqa: ARG001 (nothing is trusted)
) -> None:
    state, port = project / ".fleetctl", listener.port
    admin = GatewaySpec("main", "127.0.0.1:8080", f"https://evil.test:{port}", SECRET)
    assert "FC1271" in str(_refused(lambda: connect(state, admin)).diagnostics)
    front = GatewaySpec("main", f"evil.test:{port}", "")
    assert "FC1272" in str(_refused(lambda: through_gateway([front], state)).diagnostics)
    assert not (state / "operator.secret").exists()

    async def judge() -> None:
        spec = type("Spec", (), {"concurrency": 1, "judge": JudgeSpec(admin.admin, "m", SECRET)})
        async with judge_client(spec, lambda _: canary):  # type: ignore[arg-type]
            pass

    assert "trust add" in str(_refused(lambda: asyncio.run(judge())).diagnostics)
    for scheme in ("http", "https"):
        url = f"{scheme}://evil.test:{port}/{canary}"
        why = asyncio.run(deliver(url, {"text": "x"}, reference="env:HOOK"))
        assert f"evil.test:{port}" in why
        assert canary not in why
    arguments = ("--golden", "g.jsonl", "--url", f"https://evil.test:{port}", "--key", SECRET)
    assert "FC1271" in call(project, "eval", "run", "alias", *arguments).stderr


@pytest.mark.parametrize(
    ("url", "hosts", "known"),
    [
        ("http://${env:SPOT}:8000", {"box.test:8000": ()}, True),
        ("http://${env:SPOT}:8000/v1", {"box.test:8000": ()}, True),
        ("https://box.test/${env:SPOT}", {"box.test:443": ("env:SPOT",)}, True),
        ("http://127.0.0.1:9/${env:SPOT}", {}, True),
        ("http://${env:SPOT}:8000", {}, False),
        ("http://${env:SPOT}:8000", {"other.test:8000": ()}, False),
        ("http://box.test/${env:SPOT}", {"box.test:80": ("env:SPOT",)}, False),
        ("https://box.test/${env:SPOT}", {"box.test:443": ()}, False),
        ("https://box.test/${env:SPOT}", {"box.test:443": ("operator",)}, False),
        ("https://box.test/v1/${env:SPOT}x", {"box.test:443": ("env:OTHER",)}, False),
    ],
)
def test_values_of_the_environment_go_to_confirmed_hosts_alone(
    url: str,
    hosts: dict[str, tuple[str, ...]],
    known: bool,  # noqa: FBT001
    project: Path,
    trust_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPOT", "box.test")
    confirm(trust_home, hosts)
    declare(project, attached(url))
    done = call(project, "validate")
    assert ("FC1276" in done.stderr) is not known
    assert known or "box.test:8000" not in done.text


def test_a_gateway_at_a_foreign_address_is_not_tried(
    project: Path,
    listener: Listener,
    trust_home: Path,  # noqa: ARG001 (nothing is trusted)
) -> None:
    folder = project / ".fleetctl" / "gateways" / "main"
    folder.mkdir(parents=True)
    (folder / "usage.jsonl").touch()  # as if it had answered here
    declare(project, f'gateways: {{main: {{listen: "evil.test:{listener.port}", kind: envoy}}}}\n')
    for command in COMMANDS:
        call(project, *command.split())
    assert listener.received == []


HTTP = {"httpx", "aiohttp", "requests", "urllib.request", "http.client", "smtplib", "urllib3"}


def test_one_module_connects_and_one_function_makes_headers_of_secrets() -> None:
    clients, makers = set(), set()
    for path in [*(REPOSITORY / "runtime").rglob("*.py"), *(REPOSITORY / "fleetctl").rglob("*.py")]:
        name = str(path.relative_to(REPOSITORY))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names) if HTTP & {alias.name for alias in names}:
                    clients.add(name)
                case ast.ImportFrom(module=module, names=names) if module in HTTP:
                    clients |= {name} if [alias.name for alias in names] != ["responses"] else set()
                case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                    makers |= {name} if text.startswith("Bearer ") else set()
                case _:
                    pass
    # Sources of versions are named by an operator, or by the lock where their hosts are trusted.
    sources = {"runtime/sources/http.py", "runtime/sources/registry.py"}
    assert clients - sources == {"runtime/json_client.py", "runtime/notify/delivery.py"}
    # The gateway reads such headers; the client sends servers their keys, which are derived.
    others = {"runtime/gateway/http/incoming.py", "runtime/json_client.py"}
    others |= {"runtime/sources/hub.py", "runtime/sources/registry.py"}
    assert makers - others == {"runtime/trust.py"}


def test_a_gateway_that_is_not_asked_is_unknown_and_not_stopped(
    project: Path,
    trust_home: Path,  # noqa: ARG001 (nothing is trusted)
) -> None:
    declare(project, gateway("https://evil.test:9000"))
    done = call(project, "gateway", "status")
    assert done.stdout.startswith("main  unknown  `operator` was not sent to `evil.test:9000`")
    assert "`fleetctl trust add https://evil.test:9000`" in done.stdout
