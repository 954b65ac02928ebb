"""Links, sessions and tokens open what they were made for, until their end, and nothing else."""

import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.history import DashboardRevoked
from fleet.usage import OfClient
from runtime.web.access import (
    NOT_FOUND,
    Grant,
    TokenSigner,
    TrustedProxy,
    allowed_hosts,
    is_same_origin,
    signing_key,
)
from tests.runtime.web.stage import Viewer, project, reading, viewing

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
SIGNER = TokenSigner(b"a key")
GRANT = Grant(OfClient("acme"), "mara", NOON + timedelta(days=30))


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    workspace = project(tmp_path_factory.mktemp("web") / "project")
    seen = reading(workspace, (DashboardRevoked("birch"), DashboardRevoked("birch")))
    with viewing(workspace, seen) as made:
        yield made


def test_a_token_is_read_back_as_it_was_granted() -> None:
    assert SIGNER.read("link", SIGNER.make("link", GRANT), NOON, {}) == GRANT


@pytest.mark.parametrize(
    ("kind", "signer", "at", "revoked"),
    [
        ("session", SIGNER, NOON, {}),
        ("link", TokenSigner(b"another key"), NOON, {}),
        ("link", SIGNER, NOON + timedelta(days=30), {}),
        ("link", SIGNER, NOON, {"acme": 1}),
    ],
    ids=["of another kind", "forged", "expired", "revoked"],
)
def test_a_token_that_does_not_hold_opens_nothing(
    kind: str, signer: TokenSigner, at: datetime, revoked: dict[str, int]
) -> None:
    assert SIGNER.read(kind, signer.make("link", GRANT), at, revoked) is None  # type: ignore[arg-type]


def test_a_changed_token_opens_nothing() -> None:
    token = SIGNER.make("link", GRANT)
    for place in range(0, len(token), 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert SIGNER.read("link", changed, NOON, {}) is None
    assert SIGNER.read("link", token, NOON, {}) == GRANT
    for last in string.ascii_letters + string.digits + "-_":
        changed = token[:-1] + last
        assert (SIGNER.read("link", changed, NOON, {}) is None) == (changed != token)


def test_the_key_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    first = signing_key(tmp_path / "state")
    assert signing_key(tmp_path / "state") == first
    path = tmp_path / "state" / "dashboard.key"
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(b"")
    with pytest.raises(FleetError, match="empty or no text"):
        signing_key(tmp_path / "state")


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://a:1", "host": "a:1"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://a:1", "host": "a:1"}, True),
        ({"origin": "http://b:1", "host": "a:1"}, False),
        ({"origin": "null", "host": "a:1"}, False),
        ({"host": "a:1"}, False),
    ],
)
def test_a_write_comes_from_a_page_of_ours(headers: dict[str, str], is_ours: object) -> None:
    assert is_same_origin(headers) is is_ours


def test_only_named_hosts_are_answered(viewer: Viewer) -> None:
    assert allowed_hosts("0.0.0.0:80", "https://fleet.example.com") == {
        "0.0.0.0:80", "fleet.example.com",
    }  # fmt: skip
    for host in ("evil.test", "127.0.0.1:8091", ""):
        refused = viewer.http.get("/models", headers={**viewer.session(), "host": host})
        assert (refused.status_code, refused.text) == (404, NOT_FOUND)


def test_a_link_of_an_operator_opens_one_session(viewer: Viewer) -> None:
    link = f"/enter?t={viewer.token('link')}"
    first, second = viewer.http.get(link), viewer.http.get(link)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    assert "HttpOnly" in first.headers["set-cookie"]
    assert (second.status_code, second.text) == (404, NOT_FOUND)
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert viewer.http.get("/models", headers={"cookie": cookie}).status_code == 200


def test_a_link_of_a_client_opens_its_pages_again_and_again(viewer: Viewer) -> None:
    link = f"/enter?t={viewer.token('link', 'acme')}"
    for _ in range(2):
        opened = viewer.http.get(link)
        assert opened.headers["location"] == "/c/acme"
        assert "Path=/c/acme" in opened.headers["set-cookie"]
        assert "SameSite=lax" in opened.headers["set-cookie"]


def test_revoked_links_and_sessions_open_nothing_and_newer_ones_do(viewer: Viewer) -> None:
    for generation, status in ((0, 404), (1, 404), (2, 303)):
        link = f"/enter?t={viewer.token('link', 'birch', generation)}"
        assert viewer.http.get(link).status_code == status
    assert viewer.http.get("/c/birch", headers=viewer.session("birch")).status_code == 404


def test_a_bearer_gets_data_and_no_page(viewer: Viewer) -> None:
    assert viewer.http.get("/models.json", headers=viewer.bearer()).status_code == 200
    assert viewer.http.get("/models", headers=viewer.bearer()).status_code == 404


def test_a_write_from_another_page_is_refused_before_it_is_read(viewer: Viewer) -> None:
    path, session = "/do/hold/acme-support", viewer.session()
    for origin in (
        dict[str, str](),
        {"origin": "http://evil.test"},
        {"sec-fetch-site": "cross-site"},
    ):
        answer = viewer.http.post(path, data={"reason": "x"}, headers={**session, **origin})
        assert (answer.status_code, answer.text) == (404, NOT_FOUND)


def test_read_only_has_no_route_that_writes(tmp_path: Path) -> None:
    workspace = project(tmp_path / "project")
    with viewing(workspace, reading(workspace), read_only=True) as viewer:
        methods = {
            method
            for route in viewer.pages.application().routes
            for method in getattr(route, "methods", ())
        }
        assert methods == {"GET", "HEAD"}
        for page in ("/rollouts", "/models/acme-support"):
            shown = viewer.http.get(page, headers=viewer.session()).text
            assert not re.search("/do/|/deploy/", shown)
        for path in ("/do/rollback/acme-support", "/deploy/acme-support"):
            asked = viewer.http.get(path, headers=viewer.session())
            assert (asked.status_code, asked.text) == (404, NOT_FOUND)


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", [("x-forwarded-user", "mara")], 200),
        ("127.0.0.1", [("x-forwarded-user", "mara"), ("x-forwarded-user", "eve")], 404),
        ("127.0.0.1", [("x-forwarded-user", "")], 404),
        ("127.0.0.1", [("x-user", "mara")], 404),
        ("10.0.0.7", [("x-forwarded-user", "mara"), ("x-forwarded-for", "10.0.0.7")], 404),
    ],
    ids=["named", "named twice", "empty", "another header", "from elsewhere"],
)
def test_a_proxys_header_counts_from_its_address_alone(
    tmp_path: Path, address: str, headers: list[tuple[str, str]], status: int
) -> None:
    workspace = project(tmp_path / "project")
    proxy = TrustedProxy("X-Forwarded-User", address)
    with viewing(workspace, reading(workspace), proxy=proxy) as viewer:
        assert viewer.http.get("/models", headers=headers).status_code == status
        assert viewer.http.get("/c/acme", headers=headers).status_code == 404
        write = viewer.http.post("/do/hold/acme-support", data={"reason": "x"}, headers=headers)
        assert (write.status_code, write.text) == (404, NOT_FOUND)


def test_a_header_opens_nothing_where_no_proxy_is_declared(viewer: Viewer) -> None:
    answer = viewer.http.get("/models", headers={"x-forwarded-user": "mara"})
    assert (answer.status_code, answer.text) == (404, NOT_FOUND)
