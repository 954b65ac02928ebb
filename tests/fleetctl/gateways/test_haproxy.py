"""Two gateways, the second with a checkout of its own and TLS, behind the HAProxy of the docs."""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fleetctl.project_on_disk import REPOSITORY, Project
from tests.ports import free_port

pytestmark = pytest.mark.haproxy
OLD, NEW = "2.1.0", "2.2.0"
ADDRESS = re.compile(r"server (gw[12]) [0-9.]+:[0-9]+")


def write_certificate(path: Path) -> None:
    """Write a key and a certificate for 127.0.0.1 that it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gw2")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )


@dataclass
class Site:
    """The checkout of the operator, that of the other machine, and the balancer's address."""

    near: Project
    far: Project
    url: str
    key: str
    answers: Counter[int] = field(default_factory=Counter)
    versions: dict[str, set[str]] = field(default_factory=dict)
    """Versions that answered a user."""

    def status(self) -> dict[str, dict[str, object]]:
        shown = self.near.run("gateway", "status", "--format", "json")
        return {row["gateway"]: row for row in json.loads(shown.stdout)}

    def rows(self) -> dict[str, int]:
        """Return the rows in the usage logs, by gateway."""
        logs = {"gw1": self.near, "gw2": self.far}
        paths = {n: p.root / f".fleetctl/gateways/{n}/usage.jsonl" for n, p in logs.items()}
        return {name: len(path.read_text("utf-8").splitlines()) for name, path in paths.items()}

    @contextlib.asynccontextmanager
    async def traffic(self) -> AsyncIterator[None]:
        """Ask through the balancer without a pause while the block runs."""
        self.answers.clear()
        self.versions.clear()
        ended = asyncio.Event()

        async def user(http: aiohttp.ClientSession, name: str) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                body = {
                    "model": "acme-support", "user": name, "max_tokens": 4,
                    "messages": [{"role": "user", "content": "ping"}], "stream": bool(number % 2),
                }  # fmt: skip
                async with http.post(f"{self.url}/v1/chat/completions", json=body) as answer:
                    await answer.read()
                    self.answers[answer.status] += 1
                    version = answer.headers.get("x-fleetctl-version", "none")
                    self.versions.setdefault(name, set()).add(version)

        headers = {"Authorization": f"Bearer {self.key}"}
        async with aiohttp.ClientSession(headers=headers) as http, asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(user(http, f"user-{number}"))
            try:
                yield
            finally:
                ended.set()


async def listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tmp_path = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FLEET_OPERATOR", "the-operators-own-secret-of-this-fleet")
        patched.setenv("SSL_CERT_FILE", str(tmp_path / "there/gw2.pem"))
        yield from made_site(tmp_path)


def made_site(tmp_path: Path) -> Iterator[Site]:
    """Yield a fleet on the fake engine whose canary has half of the traffic."""
    near = Project.copy(tmp_path / "here", None)
    listen = {name: f"127.0.0.1:{free_port()}" for name in ("gw1", "gw2", "balancer")}
    far_admin = f"https://127.0.0.1:{free_port()}"
    fleet, acme = near.root / "fleet.yaml", near.root / "clients/acme.yaml"
    text, count = re.subn(
        r"gateways:\n  main: .*\n",
        f"""gateways:
  gw1: {{listen: "{listen["gw1"]}", secret: "env:FLEET_OPERATOR"}}
  gw2:
    listen: "{listen["gw2"]}"
    admin: {far_admin}
    certificate: gw2.pem
    secret: env:FLEET_OPERATOR
""",
        fleet.read_text("utf-8"),
    )
    assert count == 1
    fleet.write_text(text.replace("weights: [10%, 50%", "weights: [50%, 75%"), "utf-8")
    there = tmp_path / "there"
    shutil.copytree(near.root, there)
    write_certificate(there / "gw2.pem")
    far = Project(there, near.options)
    page = (REPOSITORY / "docs/gateway.md").read_text("utf-8")
    (settings,) = re.findall(r"```haproxy\n(.*?)```", page, re.DOTALL)
    settings = ADDRESS.sub(lambda found: f"server {found[1]} {listen[found[1]]}", settings)
    frontend = "bind :443 ssl crt /etc/haproxy/cert.pem\n"
    assert frontend in settings
    settings = settings.replace(frontend, f"bind {listen['balancer']}\n")
    (tmp_path / "haproxy.cfg").write_text(settings, "utf-8")
    key = (near.root / ".fleetctl/keys/acme-prod").read_text("utf-8").strip()
    try:
        assert near.run("gateway", "start", "gw1").returncode == 0
        assert far.run("gateway", "start", "gw2").returncode == 0
        assert near.run("apply", "--auto", "--yes").returncode == 0
        acme.write_text(acme.read_text("utf-8").replace(f'"{OLD}"', f'"{NEW}"'), "utf-8")
        assert near.run("apply", "--auto", "--yes").returncode == 0
        with subprocess.Popen(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")]) as haproxy:
            asyncio.run(listening(int(listen["balancer"].rpartition(":")[2])))
            try:
                yield Site(near, far, f"http://{listen['balancer']}", key)
            finally:
                haproxy.kill()
    finally:
        far.run("gateway", "stop", "gw2")
        near.run("gateway", "stop", "gw1")
        near.clean_up()


def test_gateways_of_two_machines_start_anew_one_after_another_without_a_failed_request(
    site: Site,
) -> None:
    async def scenario() -> None:
        async with site.traffic():
            done = await asyncio.to_thread(site.near.run, "gateway", "restart", "--wait", "4s")
            assert done.returncode == 0, done.stderr
        assert re.findall("gateway (gw[12]) restarted", done.stderr) == ["gw1", "gw2"]

    before = site.rows()
    asyncio.run(scenario())
    assert set(site.answers) == {200}
    after = site.rows()
    assert after["gw1"] > before["gw1"]
    assert after["gw2"] > before["gw2"]
    assert sum(after.values()) - sum(before.values()) == site.answers.total()
    assert all(len(versions) == 1 for versions in site.versions.values())  # on both gateways
    rows_of = site.status().values()
    assert {row["revision"] for row in rows_of} == {row["newest"] for row in rows_of}


def test_with_a_gateway_away_the_others_follow_it_is_named_and_it_catches_up(site: Site) -> None:
    assert site.far.run("gateway", "stop", "gw2").returncode == 0
    acme = site.near.root / "clients/acme.yaml"
    text = acme.read_text("utf-8")
    acme.write_text(text.replace("    keys:", "    limits: {concurrency: 100}\n    keys:"), "utf-8")
    applied = site.near.run("apply", "--auto", "--yes")
    assert applied.returncode == 4, applied.stderr
    why = "Clients would be answered by different versions: gateway `gw2`"
    assert why in applied.stdout + applied.stderr
    back = site.near.run("rollback", "acme-support")
    assert (back.returncode, "(1 of 2 gateways acknowledged)" in back.stdout) == (1, True)
    assert "gw2" in back.stderr
    assert "fleetctl reconcile --once" in back.stderr
    refused = site.near.run("gateway", "restart", "gw1", "--wait", "0s")
    assert (refused.returncode, "FC6017" in refused.stderr) == (1, True)
    assert site.far.run("gateway", "start", "gw2").returncode == 0
    late = site.status()["gw2"]
    assert isinstance(late["revision"], int)
    assert 0 < late["revision"] < late["newest"]  # type: ignore[operator]
    assert "gw2 lags behind" in site.near.run("reconcile", "--once").stderr
    assert len({row["digest"] for row in site.status().values()}) == 1
    assert "gw2  running elsewhere  revision" in site.near.run("gateway", "status").stdout
    assert site.near.run("apply", "--auto", "--yes").returncode == 0
