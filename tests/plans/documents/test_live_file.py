import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.hardware import DeviceSpec, HostSpec
from fleet.history import History
from fleet.names import Address
from fleet.resources import (
    Fault,
    Key,
    LoadedAdapter,
    Resource,
    Route,
    Server,
    ServerFlags,
    Share,
    State,
)
from plans.documents.live_file import KnownPast, dump, load, load_with_past

FLAGS = ServerFlags("models/base/tiny", "tiny", 8, 16, 16, extra=(("seed", "1"),))
RESOURCES: tuple[Resource, ...] = (
    Server("tiny-laptop-cpu0", "tiny", "laptop", ("cpu0",), 8100, FLAGS.digest, FLAGS),
    Server("other", "tiny", "rack", (), 8000, None),
    LoadedAdapter("acme-support-tiny-v2.1.0", "other", "41b7" * 16, "/store/x"),
    Route("acme-support", (Share("acme-support-tiny-v2.1.0", 100, ("other",)),), "s1"),
    Key("acme", "prod", "env:ACME", None),
)
STATE = State(
    resources={each.address: each for each in sorted(RESOURCES, key=lambda each: each.address)},
    unknown_servers={"gone": "no answer in 3 s"},
    routes_unknown="the gateway did not answer",
    boots={"other": "b1"},
    urls={"other": "http://10.0.0.5:8000"},
    versions={"other": "0.32.0"},
    notes=("gateway main lags behind",),
    faults={Address("gateway/west"): Fault("is not running", "fleetctl gateway start west")},
)


def test_a_state_is_read_back_as_it_was_written() -> None:
    assert load(dump(STATE)) == STATE
    assert load(dump(STATE)).servers()["tiny-laptop-cpu0"].flags == FLAGS
    assert load(dump(State())) == State()


def test_the_ledger_and_the_hosts_with_servers_are_read_back() -> None:
    owned = frozenset(map(str, STATE.resources))
    history = History(7, owned=owned, established=STATE.resources, settings={"fleet": "agency"})
    devices = (DeviceSpec("gpu0", "h100_80g", 80 << 30, 2.5, 8000),)
    past = KnownPast(history, {"rack": HostSpec("rack", "ssh", devices, address="a@b")})
    assert load_with_past(dump(STATE, past)) == (STATE, past)
    assert load_with_past(dump(STATE)) == (STATE, KnownPast())
    torn = dump(STATE, past).replace('"seq": 7', '"seq": "7"')
    with pytest.raises(FleetError, match=r"live\.history\.seq: expected a whole number"):
        load(torn)


def test_what_is_empty_is_not_written() -> None:
    assert list(json.loads(dump(State()))) == ["format", "format_version", "resources"]


def test_a_user_and_password_in_a_url_are_left_out() -> None:
    secret = State(urls={"a": "http://ana:hunter2@10.0.0.5:8000/v1"})
    assert "hunter2" not in dump(secret)
    assert load(dump(secret)).urls == {"a": "http://10.0.0.5:8000/v1"}


def test_fields_with_defaults_may_be_left_out_by_hand() -> None:
    text = """{"format": "fleetctl-live", "format_version": "1.0",
        "unknown_servers": {"s": "no answer"}, "resources": [
        {"kind": "adapter", "adapter": "a-b-c-v1.0.0", "server": "s", "digest": null}]}"""
    (found,) = load(text).resources.values()
    assert found == LoadedAdapter("a-b-c-v1.0.0", "s", None)


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda d: d["resources"].append(d["resources"][0]), "the same address twice"),
        (lambda d: d["resources"][0].pop("kind"), "resources[0]"),
        (lambda d: d["resources"][0].update(kind="gpu"), "resources[0]"),
        (lambda d: d["resources"][0].pop("server"), "resources[0]: `server` is missing"),
        (lambda d: d["resources"][0].update(rank=8), "resources[0]: unknown field `rank`"),
        (lambda d: d["resources"][0].update(server=3), "resources[0].server: expected text"),
        (
            lambda d: d["resources"][0].update(server="no-such"),
            "resources[0].server: no server `no-such` is listed",
        ),
        (lambda d: d.update(resources={}), "resources: expected a list"),
        (lambda d: d.update(boots=["b1"]), "live.boots: expected an object"),
        (lambda d: d.update(weather="fine"), "live: unknown field `weather`"),
    ],
)
def test_a_wrong_field_is_named(edit: Callable[[dict[str, Any]], object], place: str) -> None:
    document = json.loads(dump(STATE))
    edit(document)
    with pytest.raises(FleetError) as caught:
        load(json.dumps(document))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "FC5006"
    assert place in diagnostic.detail
