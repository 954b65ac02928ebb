"""A host fetches a version from its source by itself, with `curl`, over TLS."""

import asyncio
import os
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aiohttp import web

from fleet.errors import EngineError
from runtime.engines.protocol import DirectFile
from runtime.engines.remote.connection import ThisMachine
from runtime.engines.remote.copies import SshTransport
from runtime.engines.store import SourceFolder
from runtime.library.layout import SERVED_FILES
from runtime.sources.http import HttpSource
from runtime.sources.opening import direct_from
from tests.certificates import Authority
from tests.runtime.sources.stand_ins import StandIn, serving

SIZE = 3 << 20
RIGHT = "Bearer of-an-hour"


@pytest.fixture
def version(tmp_path: Path) -> SourceFolder:
    folder = tmp_path / "version"
    folder.mkdir()
    for name, size in zip(SERVED_FILES, (1000, SIZE), strict=True):
        (folder / name).write_bytes(os.urandom(size))
    return SourceFolder.of(folder, SERVED_FILES)


@pytest.fixture
def server(
    version: SourceFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    """A web server with TLS, whose authority this machine's `curl` knows."""
    authority = Authority(tmp_path / "authority", "sources")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server"))
    home = tmp_path / "home"
    home.mkdir()
    (home / ".curlrc").write_text(f"cacert = {authority.ca}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca)
    with serving(StandIn(version.folder, tls=context)) as running:
        yield running


def files_at(server: StandIn, right: str = "") -> Sequence[DirectFile]:
    return [DirectFile(name, f"{server.url}/files/{name}", right) for name in SERVED_FILES]


def brought(version: SourceFolder, files: Sequence[DirectFile]) -> Path:
    async def direct(digest: str) -> Sequence[DirectFile]:
        assert digest == version.digest
        return files

    machine = ThisMachine()
    machine.rsync_host = "nowhere.invalid"  # as this machine is no host of `ssh`
    return Path(asyncio.run(SshTransport(machine, "store", direct=direct).bring(version)))


@pytest.mark.needs("curl")
def test_a_host_fetches_a_version_and_nothing_is_sent(
    version: SourceFolder, server: StandIn
) -> None:
    def refuse_strangers(request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        return None if given == RIGHT else web.Response(status=401)

    server.fault = refuse_strangers
    copy = brought(version, files_at(server, RIGHT))
    assert copy.name == version.digest
    for name in SERVED_FILES:
        assert (copy / name).read_bytes() == (version.folder / name).read_bytes()
    assert server.sent[SERVED_FILES[1]] == SIZE
    assert brought(version, files_at(server, RIGHT)) == copy
    assert server.sent[SERVED_FILES[1]] == SIZE


@pytest.mark.needs("curl")
def test_what_arrived_before_an_interruption_is_not_fetched_again(
    version: SourceFolder, server: StandIn
) -> None:
    part = Path.home() / "store" / f"{version.digest}.part"
    part.mkdir(parents=True)
    weights = (version.folder / SERVED_FILES[1]).read_bytes()
    (part / SERVED_FILES[1]).write_bytes(weights[: SIZE // 2])
    brought(version, files_at(server))
    assert server.sent[SERVED_FILES[1]] == SIZE - SIZE // 2


@pytest.mark.needs("curl", "rsync")
def test_other_bytes_never_get_the_name(version: SourceFolder, server: StandIn) -> None:
    server.fault = lambda request: (
        web.Response(body=b"x" * SIZE) if request.path.endswith("safetensors") else None
    )
    with pytest.raises(EngineError) as error:
        brought(version, files_at(server))
    assert [problem.code for problem in error.value.diagnostics] == ["FC4097"]
    assert not (Path.home() / "store" / version.digest).exists()


def test_a_login_that_lasts_is_not_handed_on_and_a_signed_place_is(
    version: SourceFolder, server: StandIn
) -> None:
    weights = f"{server.url}/files/{SERVED_FILES[1]}"

    async def found(login: str, *, ends: bool) -> DirectFile | None:
        source = HttpSource("a source", "log in")
        source.client.headers["Authorization"] = login
        try:
            return await source.direct("weights", weights, ends=ends)
        finally:
            await source.close()

    assert asyncio.run(found("Bearer lasting", ends=False)) is None
    assert asyncio.run(found("Basic bmFtZTpwYXNz", ends=True)) is None
    assert asyncio.run(found(RIGHT, ends=True)) == DirectFile("weights", weights, RIGHT)
    assert server.sent[SERVED_FILES[1]] <= 3  # a byte for each answer

    with serving(StandIn(version.folder, tls=server.tls)) as store:
        signed = f"{store.url}/files/{SERVED_FILES[1]}?signature=1"

        def lead_there(_: web.Request) -> web.Response:
            raise web.HTTPFound(signed)

        server.fault = lead_there
        there = asyncio.run(found("Bearer lasting", ends=False))
    assert there == DirectFile("weights", signed, "")


@pytest.mark.parametrize("source", ["", "https://127.0.0.1:1/files", "hf://acme/support@main"])
def test_a_source_that_is_unknown_untrusted_or_without_tls_is_not_named_to_a_host(
    source: str,
) -> None:
    async def named() -> Sequence[DirectFile]:
        return await direct_from({"a" * 64: source})("a" * 64)

    assert asyncio.run(named()) == ()
