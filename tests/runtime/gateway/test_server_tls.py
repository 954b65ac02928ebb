"""TLS to servers on real sockets: the control plane's client and the gateway's connections."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import EngineUnreachableError
from fleet.hardware import ServerTls
from runtime.gateway.http.pool import ConnectionPool
from runtime.gateway.traffic.accounting import UsageCounters, UsageWriter
from runtime.json_client import SERVER_TLS, JsonClient
from runtime.server_tls import TlsFilesError, TlsToServer
from runtime.usage.log import UsageLog
from tests.certificates import DAY, Authority

Ask = Callable[[str, TlsToServer | None], Coroutine[Any, Any, bytes]]
ANSWER = b'{"who": "the server"}'


class Site:
    """A server's authority, a client's, and a stranger's, with files of their certificates."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.servers, self.clients = Authority(folder, "servers"), Authority(folder, "clients")
        self.strangers = Authority(folder / "strangers", "strangers")
        self.good = self.servers.issue("server")
        self.client = self.clients.issue("client")

    def tls(self, ca: str = "", pair: tuple[str, str] = ("", ""), name: str = "") -> TlsToServer:
        """Return TLS with a client's certificate and key; `ca` empty: the servers' own."""
        return TlsToServer(ServerTls(ca or self.servers.ca, *pair, name), self.root)

    @asynccontextmanager
    async def server(self, pair: tuple[str, str], *, is_open: bool = False) -> AsyncIterator[str]:
        """Serve `ANSWER` by TLS, unless `is_open` only to those with a client's certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*pair)
        if not is_open:
            context.load_verify_locations(self.clients.ca)
            context.verify_mode = ssl.CERT_REQUIRED

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(ANSWER), ANSWER))
            except (OSError, EOFError):
                writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def by_client(url: str, tls: TlsToServer | None) -> bytes:
    """Ask as commands of fleetctl do; why there is no answer is the error's detail."""
    if tls:
        SERVER_TLS[url] = tls
    try:
        async with JsonClient(url) as http:
            return await http.get_bytes("/v1/models")
    except EngineUnreachableError as error:
        raise ConnectionError(error.diagnostics[0].detail) from None
    finally:
        SERVER_TLS.pop(url, None)


@pytest.fixture
def by_gateway(tmp_path: Path) -> Ask:
    """Ask as a gateway asks for the health of servers."""

    async def ask(url: str, tls: TlsToServer | None) -> bytes:
        with UsageLog(tmp_path / "usage.jsonl") as log:
            usage = UsageWriter(log, UsageCounters())
            loop = asyncio.get_running_loop()
            pool = ConnectionPool(loop, usage, lambda *_: True, lambda _: tls)
            try:
                status, body = await pool.get(url, "/v1/models", 5.0)
            finally:
                pool.close()
            assert status == 200
            return body

    return ask


@pytest.fixture(params=["command", "gateway"])
def ask(request: pytest.FixtureRequest, by_gateway: Ask) -> Ask:
    return by_client if request.param == "command" else by_gateway


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "pki")


def fault(ask: Ask, url: str, tls: TlsToServer | None) -> Coroutine[Any, Any, str]:
    async def failed() -> str:
        with pytest.raises(ConnectionError) as caught:
            await ask(url, tls)
        return str(caught.value)

    return failed()


@pytest.mark.usefixtures("serving_loop")
def test_a_server_that_demands_a_certificate_answers_those_who_show_theirs(
    ask: Ask, site: Site
) -> None:
    whole = str(Path(site.client[0]).with_suffix(".pem"))
    Path(whole).write_bytes(b"".join(Path(path).read_bytes() for path in site.client))

    async def scenario() -> None:
        async with site.server(site.good) as url:
            assert await ask(url, site.tls(pair=site.client)) == ANSWER
            assert await ask(url, site.tls(pair=(whole, ""))) == ANSWER
            assert "another client certificate (none was shown)" in await fault(
                ask, url, site.tls()
            )
            stranger = site.strangers.issue("stranger")
            told = await fault(ask, url, site.tls(pair=stranger))
            assert f"(shown was `{stranger[0]}`)" in told
            expired = site.clients.issue("late", ends=-DAY)
            assert f"(shown was `{expired[0]}`)" in await fault(ask, url, site.tls(pair=expired))

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_a_server_with_another_certificate_gets_no_request_and_it_is_said_why(
    ask: Ask, site: Site
) -> None:
    async def scenario() -> None:
        mine = site.tls(pair=site.client)
        async with site.server(site.good) as url:
            wrong = site.tls(site.strangers.ca, site.client)
            assert "not accepted by the `ca` of its `tls`" in await fault(ask, url, wrong)
            assert "not accepted by this machine" in await fault(ask, url, None)
        async with site.server(site.servers.issue("old", ends=-DAY)) as url:
            assert "certificate has expired" in await fault(ask, url, mine)
        async with site.server(site.servers.issue("elsewhere", dns="gpu7.internal")) as url:
            assert "not valid for '127.0.0.1'" in await fault(ask, url, mine)
            named = site.tls(pair=site.client, name="gpu7.internal")
            assert await ask(url, named) == ANSWER

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_certificates_are_exchanged_without_a_restart(by_gateway: Ask, site: Site) -> None:
    own = site.clients.issue("both")
    tls = site.tls(pair=own)

    async def asked() -> None:
        async with site.server(site.good) as url:
            assert await by_gateway(url, tls) == ANSWER

    async def refused() -> None:
        async with site.server(site.good) as url:
            assert "another client certificate" in await fault(by_gateway, url, tls)

    asyncio.run(asked())
    for new, old in zip(site.strangers.issue("both"), own, strict=True):
        Path(new).replace(old)
    asyncio.run(refused())
    Path(own[1]).write_bytes(b"half a fi")  # the context of before goes on
    asyncio.run(refused())
    assert site.clients.issue("both") == own
    asyncio.run(asked())


def test_files_that_cannot_be_used_are_named_and_no_password_is_asked_for(
    site: Site, tmp_path: Path
) -> None:
    inside = site.root / "ca.pem"
    inside.parent.mkdir()
    inside.write_bytes(Path(site.servers.ca).read_bytes())
    linked = tmp_path / "linked.pem"
    linked.symlink_to(inside)
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    closed = site.clients.issue("closed", password="hidden")
    other = site.clients.issue("other")
    for files, said in (
        (ServerTls(str(inside)), f"`{inside}` of its `tls` lies in the project"),
        (ServerTls(str(linked)), f"`{linked}` of its `tls` lies in the project"),
        (ServerTls(str(tmp_path)), "cannot be read: Is a directory"),
        (ServerTls("/nowhere/ca.pem"), "`/nowhere/ca.pem` of its `tls` cannot be read: No such"),
        (ServerTls(str(empty)), f"`{empty}` of its `tls` cannot be used: no certificate"),
        (ServerTls("", *closed), f"`{closed[0]}` of its `tls` cannot be used with `{closed[1]}`"),
        (ServerTls("", other[0], site.client[1]), "key values mismatch"),
    ):
        with pytest.raises(TlsFilesError) as caught:
            TlsToServer(files, site.root).context()
        assert said in str(caught.value)
