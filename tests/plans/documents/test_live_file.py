import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.hardware import AttachedFacts, DeviceSpec, HostSpec
from fleet.history import History
from fleet.names import TABLE, Address
from fleet.resources import (
    Fault,
    Key,
    LoadedAdapter,
    OutageKind,
    Resource,
    Route,
    Server,
    ServerFlags,
    Share,
    State,
)
from plans.documents.live_file import KnownPast, dump, load, load_with_past
from runtime.engines.observation import merge
from tests.fleet.planning.builders import NOON

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
)
LOST = LoadedAdapter("acme-support-tiny-v2.0.0", "other", "77c0" * 16, "/store/y")
EVERY_FIELD = replace(
    STATE,
    ports={"gone": 8300},
    of_others={"gone": "/srv/other/.fleetctl"},
    ended={"west": "f3" * 6},
    away_hosts={"rack2": "Ray says of node 10.0.0.7: dead"},
    fleets={"other": "f1"},
    launches={"tiny-laptop-cpu0": "ab" * 6},
    routed_launches={"tiny-laptop-cpu0": "cd" * 6},
    attached={
        "other": AttachedFacts(takes_adapters=True, max_loras=16, root="m", max_model_len=512)
    },
    bases={"tiny-laptop-cpu0": "9e" * 32},
    pythons={"tiny-laptop-cpu0": ("/venv-32/bin/python", "/venv-33/bin/python")},
    resolvable={LOST.address: LOST},
    lost=(LOST.address,),
    faults={
        Address("gateway/west"): Fault("is not running", "fleetctl gateway start west"),
        Address("key/acme/prod"): Fault("cannot be read", "ls", OutageKind.KEY_GONE, NOON),
        Address("server/gone"): Fault("hangs", "logs", OutageKind.SERVER_HUNG, NOON, heals=True),
        TABLE: Fault("is torn", "fleetctl plan", OutageKind.TABLE_DAMAGED, heals=True),
    },
    behind=True,
)
"""A state with a value in every field, so that a field that the file leaves out is seen."""


def test_a_state_is_read_back_as_it_was_written() -> None:
    assert load(dump(STATE)) == STATE
    assert load(dump(STATE)).servers()["tiny-laptop-cpu0"].flags == FLAGS
    assert load(dump(State())) == State()


@pytest.mark.parametrize("field", [field.name for field in fields(State)])
def test_every_field_of_a_state_is_read_back(field: str) -> None:
    """11 of the 20 fields were left out: plans of pull requests had other ids than the fleet's."""
    assert getattr(EVERY_FIELD, field) != getattr(State(), field), "give it a value above"
    assert getattr(load(dump(EVERY_FIELD)), field) == getattr(EVERY_FIELD, field)


@pytest.mark.parametrize("field", [field.name for field in fields(State)])
def test_every_field_of_a_state_is_merged(field: str) -> None:
    assert getattr(merge(EVERY_FIELD, State()), field) == getattr(EVERY_FIELD, field)


def test_files_of_earlier_minor_versions_are_read_and_written() -> None:
    fault = {"what": "is not running", "command": "fleetctl gateway start west"}
    older = {"format": "fleetctl-live", "format_version": "1.2", "gateways": {"west": fault}}
    expected = Fault(fault["what"], fault["command"])
    assert load(json.dumps(older)).faults == {Address("gateway/west"): expected}
    versions = {
        "1.1": STATE,
        "1.2": replace(STATE, attached=EVERY_FIELD.attached),
        "1.3": replace(STATE, bases=EVERY_FIELD.bases),
        "1.4": replace(STATE, ports=EVERY_FIELD.ports),
    }
    for version, state in versions.items():
        assert json.loads(dump(state))["format_version"] == version


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
