"""Registries that ask for a token, as most that are hosted do."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from fleet.errors import LibraryError
from runtime.sources.reference import SourceReference
from runtime.sources.registry import MANIFEST, TITLE, Registry, login_of
from runtime.sources.remote import Listing
from tests.runtime.sources.stand_ins import StandIn, serving

LOGIN = base64.b64encode(b"ci:secret").decode()
LAYERS = [
    {
        "digest": f"sha256:{digit * 64}",
        "size": 1,
        "mediaType": "x.raw",
        "annotations": {TITLE: name},
    }
    for digit, name in (("a", "adapter_config.json"), ("b", "adapter_model.safetensors"))
]
TEXT = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": LAYERS})


class TokenRegistry:
    """Answers by a token alone, which it gives for a login."""

    def __init__(self, realm: str) -> None:
        self.realm, self.asked = realm, list[tuple[str, str]]()

    def __call__(self, request: web.Request) -> web.StreamResponse:
        sent = request.headers.get("Authorization", "")
        self.asked.append((request.path, sent))
        if request.path == "/token":
            if sent != f"Basic {LOGIN}":
                return web.Response(status=401)
            assert request.query["scope"] == "repository:acme/support:pull"
            assert request.query["service"] == "here"
            return web.json_response({"token": "t0ken"})
        if sent != "Bearer t0ken":
            challenge = f'Bearer realm="{self.realm}",service="here",scope="x"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(text=TEXT, content_type=MANIFEST)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    with serving(StandIn(tmp_path)) as found:
        found.fault = TokenRegistry(f"{found.url}/token")
        yield found


def listing(stand_in: StandIn, login: str) -> Listing:
    async def run() -> Listing:
        place = f"127.0.0.1:{stand_in.port}"
        registry = Registry(SourceReference("oci", place, "acme/support", "1"), login)
        try:
            await registry.listing()
            return await registry.listing()
        finally:
            await registry.close()

    return asyncio.run(run())


def asked(stand_in: StandIn) -> list[tuple[str, str]]:
    assert isinstance(stand_in.fault, TokenRegistry)
    return stand_in.fault.asked


def test_a_token_is_got_once_by_the_login_and_sent(stand_in: StandIn) -> None:
    found = listing(stand_in, LOGIN)
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    assert found.pinned == f"oci://127.0.0.1:{stand_in.port}/acme/support@sha256:{digest}"
    assert [file.name for file in found.files] == [layer["annotations"][TITLE] for layer in LAYERS]  # type: ignore[index]
    manifest = "/v2/acme/support/manifests/1"
    token, basic = "Bearer t0ken", f"Basic {LOGIN}"
    first = [(manifest, ""), ("/token", basic), (manifest, token)]
    assert asked(stand_in) == [*first, (manifest, token)]


def test_without_a_login_the_registry_refuses(stand_in: StandIn) -> None:
    with pytest.raises(LibraryError) as refused:
        listing(stand_in, "")
    (found,) = refused.value.diagnostics
    assert found.code == "FC3052"
    assert "docker login" in found.hint


def test_a_login_goes_to_no_place_without_tls(stand_in: StandIn) -> None:
    stand_in.fault = TokenRegistry(f"http://localhost.test:{stand_in.port}/token")
    with pytest.raises(LibraryError):
        listing(stand_in, LOGIN)
    assert {path for path, _ in asked(stand_in)} == {"/v2/acme/support/manifests/1"}


def test_logins_are_those_of_docker(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps({"auths": {
            "https://r.example/v1/": {"auth": LOGIN},
            "q.example": {"username": "ci", "password": "secret"},
            "s.example": {},
        }}),
        encoding="utf-8",
    )  # fmt: skip
    assert login_of("r.example", file) == login_of("q.example", file) == LOGIN
    assert login_of("s.example", file) == login_of("t.example", file) == ""
    assert login_of("r.example", tmp_path / "none") == ""
