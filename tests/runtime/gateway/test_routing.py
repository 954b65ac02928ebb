"""The choice of a version, as pure functions of a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.gateway.table.routing import RouteTable, digest
from runtime.gateway.table.table import AliasEntry, RoutingTable
from runtime.gateway.table.table_loader import InvalidTableError, build_routes
from tests.runtime.gateway.stage import ACME, GLOBEX, NEW, OLD, OTHERS, alias, key, table

USERS = [f"user-{number}".encode() for number in range(10_000)]
OLDER = "acme-support-tiny-v2.0.0"


def routes(*shares: tuple[str, int], salt: str = "s", name: str = "acme-support") -> RouteTable:
    entry = alias("acme", *((version, percent, ("s1",)) for version, percent in shares), salt=salt)
    return build_routes(
        RoutingTable(revision=1, servers={"s1": "http://s1:8000"}, aliases={name: entry})
    )


def chosen(made: RouteTable, name: str = "acme-support") -> list[str]:
    found = made.find("acme", name)
    assert found is not None
    return [found.choose(user).adapter for user in USERS]


@pytest.mark.parametrize("percent", [0, 1, 10, 50, 99, 100])
def test_ten_thousand_users_split_within_one_point(percent: int) -> None:
    share = chosen(routes((NEW, percent), (OLD, 100 - percent))).count(NEW) / len(USERS)
    assert abs(share - percent / 100) < 0.01
    assert percent not in {0, 100} or share == percent / 100


def test_a_user_stays_on_the_new_version_while_its_share_grows() -> None:
    kept: set[int] = set()
    for percent in (1, 10, 50, 100):
        versions = chosen(routes((NEW, percent), (OLD, 100 - percent)))
        on_new = {number for number, version in enumerate(versions) if version == NEW}
        assert kept <= on_new
        kept = on_new


def test_three_versions_split_by_their_shares() -> None:
    versions = chosen(routes((NEW, 20), (OLD, 30), (OLDER, 50)))
    shares = [versions.count(each) / len(USERS) for each in (NEW, OLD, OLDER)]
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.015)


def test_the_same_user_gets_the_same_version_of_every_equal_table() -> None:
    assert chosen(routes((NEW, 37), (OLD, 63))) == chosen(routes((NEW, 37), (OLD, 63)))


@pytest.mark.parametrize(("salt", "name"), [("t", "acme-support"), ("s", "acme-dates")])
def test_another_rollout_or_alias_begins_with_other_users(salt: str, name: str) -> None:
    first = chosen(routes((NEW, 10), (OLD, 90)))
    second = chosen(routes((NEW, 10), (OLD, 90), salt=salt, name=name), name)
    both = sum(a == b == NEW for a, b in zip(first, second, strict=True))
    assert both / len(USERS) == pytest.approx(0.01, abs=0.005)


@given(
    weights=st.lists(st.integers(0, 100), min_size=2, max_size=2).map(sorted),
    user=st.binary(max_size=64),
    salt=st.text(max_size=100),
)
def test_no_user_leaves_a_version_whose_share_grows(
    weights: list[int], user: bytes, salt: str
) -> None:
    before, after = (
        routes((NEW, weight), (OLD, 100 - weight), salt=salt).find("acme", "acme-support")
        for weight in weights
    )
    assert before is not None
    assert after is not None
    assert (before.choose(user).adapter, after.choose(user).adapter) != (NEW, OLD)


def test_keys_open_their_own_client_and_nothing_else() -> None:
    made = build_routes(table({"s1": "http://s1:8000/"}))
    shown = [made.principals.get(digest(each)) for each in (ACME, GLOBEX)]
    assert [each.client for each in shown if each is not None] == ["acme", "globex"]
    wrong = ("", "x", f"{ACME} ", "\udcff")
    assert [made.principals.get(digest(each)) for each in wrong] == [None] * 4
    assert made.names_by_client.get("acme") == ("acme-support",)
    assert made.names_by_client.get("another") is None
    assert made.find("globex", "acme-support") is None
    assert made.urls == {"s1": "http://s1:8000"}


def test_a_version_goes_only_to_servers_that_have_an_address() -> None:
    entry = alias("acme", (NEW, 100, ("s3", "s2", "s1")))
    servers = {"s1": "http://s1:8000", "s3": "http://s3:8000"}
    changed = table(servers).model_copy(update={"aliases": {"acme-support": entry}})
    found = build_routes(changed).find("acme", "acme-support")
    assert found is not None
    assert found.choose(b"").servers == ("s1", "s3")


WRONG: dict[str, tuple[str, AliasEntry]] = {
    "an alias of another client": ("globex-dates", alias("acme", (OLD, 100, ()))),
    "an adapter of another client": ("acme-support", alias("acme", (OTHERS, 100, ()))),
    "no adapter's name": ("acme-support", alias("acme", ("tiny", 100, ()))),
    "shares below 100": ("acme-support", alias("acme", (NEW, 10, ()), (OLD, 89, ()))),
    "shares above 100": ("acme-support", alias("acme", (NEW, 11, ()), (OLD, 90, ()))),
    "a share below 0": ("acme-support", alias("acme", (NEW, -1, ()), (OLD, 101, ()))),
    "no shares": ("acme-support", alias("acme")),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_table_that_could_send_traffic_astray_is_refused(case: str) -> None:
    name, entry = WRONG[case]
    with pytest.raises(InvalidTableError):
        build_routes(RoutingTable(revision=1, aliases={name: entry}))


@pytest.mark.parametrize(
    "document",
    [
        {"keys": {"acme/other": key("acme", ACME)["acme/prod"]}},
        {"keys": {"acme/prod": key("acme", ACME)["acme/prod"].model_copy(update={"sha256": "ab"})}},
        {"keys": key("acme", ACME) | key("globex", ACME)},
        {"servers": {"s1": "file:///etc/passwd"}},
        {"servers": {"s1": "http://s1:8000?x=1"}},
    ],
    ids=["misnamed key", "short hash", "one key of two clients", "file URL", "URL with a query"],
)
def test_a_malformed_key_or_url_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(InvalidTableError):
        build_routes(RoutingTable.model_validate({"revision": 1, **document}))


def test_a_version_is_found_by_its_number_or_full_name_and_by_no_part_of_them() -> None:
    twelfth = "acme-support-tiny-v12.1.0"
    found = routes((twelfth, 10), (OLD, 90)).routes.get("acme-support")
    assert found is not None
    for wanted, adapter in (
        ("2.1.0", OLD),
        ("12.1.0", twelfth),
        (OLD, OLD),
        ("1.0", None),
        ("0", None),
        ("tiny-v2.1.0", None),
    ):
        choice = found.version(wanted)
        assert (choice.adapter if choice is not None else None) == adapter
