"""A client sees its own pages: elsewhere one and the same answer, and no name of another."""

from collections.abc import Iterator

import pytest
from starlette.routing import Route

from runtime.web.access import NOT_FOUND
from tests.fleetctl.project_on_disk import CLIENTS
from tests.runtime.web.stage import PERSON, SERVER, Viewer, project, reading, viewing

OTHERS = tuple(client for client in CLIENTS if client != "acme")
ALIASES = (
    "acme-support", "acme-triage", "birch-units", "corvid-dates", "delta-orders",
    "evergreen-pii", "fjord-reviews", "globe-language", "nothing-here",
)  # fmt: skip
NEVER = (
    *OTHERS,
    SERVER,
    "laptop",
    "cpu0",
    PERSON,
    "agency-secret-host",
    "quickstart",
    "3000",
    "1,777",
)
"""Names of other clients, servers, hosts, persons, fleet, and fees."""
STATIC = ("/static/", "/enter")
TRICKS = (
    "/c/acme/../birch", "/c/acme%2f..%2fbirch", "/c/birch%00", "/c/BIRCH", "/C/birch",
    "/c/birch/", "//c/birch", "/c/acme/birch-units.json", "/c/acme/..%2f..%2fmodels.json",
    "/c/acme/acme-support/../../../models", "/c/acme;birch", "/c/birch?client=acme",
    "/models.json?after=x", "/.csv", "/c/acme/birch-units?q=", "/c/",
)  # fmt: skip


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    workspace = project(tmp_path_factory.mktemp("web") / "project")
    with viewing(workspace, reading(workspace)) as made:
        yield made


def addresses(viewer: Viewer) -> Iterator[tuple[str, str]]:
    """Yield method and path of all routes, with the ids of all tenants and of none."""
    ids = (*ALIASES, *CLIENTS, SERVER, "run1", "laptop", "nothing")
    for route in viewer.pages.application().routes:
        assert isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}:
            for name in ids if "{name}" in route.path else ("",):
                for client in CLIENTS if "{client}" in route.path else ("",):
                    for action in ("rollback", "hold") if "{action}" in route.path else ("",):
                        path = route.path.format(name=name, client=client, action=action)
                        yield method, path
    for trick in TRICKS:
        yield "GET", trick


@pytest.mark.parametrize("form", ["cookie", "bearer", "both cookies", "operator's name"])
def test_a_client_gets_its_own_bytes_or_one_and_the_same_answer(viewer: Viewer, form: str) -> None:
    session = viewer.token("session", "acme")
    headers = {
        "cookie": viewer.session("acme"),
        "bearer": viewer.bearer("acme"),
        "both cookies": {**viewer.session("acme"), **viewer.bearer("acme")},
        "operator's name": {"cookie": f"fleetctl_operator={session}"},
    }[form]
    headers |= {"sec-fetch-site": "same-origin"}
    own = 0
    for method, path in addresses(viewer):
        answer = viewer.http.request(method, path, headers=headers)
        if path.startswith(STATIC):
            continue
        if answer.status_code == 404:
            assert answer.text == NOT_FOUND, path
            continue
        assert answer.status_code == 200, path
        assert path.startswith(("/c/acme", "/C/acme")), path
        assert [name for name in NEVER if name in answer.text] == [], path
        own += 1
    assert own == {"cookie": 12, "bearer": 8, "both cookies": 12, "operator's name": 0}[form]


def test_without_access_all_is_the_same_answer(viewer: Viewer) -> None:
    answers = {
        (answer.status_code, answer.text, answer.headers.get("set-cookie"))
        for method, path in addresses(viewer)
        if not path.startswith("/static/")
        for answer in [viewer.http.request(method, path)]
    }
    assert answers == {(404, NOT_FOUND, None)}


def test_the_cookie_of_an_operator_opens_no_page_of_a_client(viewer: Viewer) -> None:
    answer = viewer.http.get("/c/acme", headers=viewer.session())
    assert (answer.status_code, answer.text) == (404, NOT_FOUND)
