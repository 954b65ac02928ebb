"""Which vLLM a device runs, and that placing counts with its slots."""

from dataclasses import replace

import pytest

from fleet.capacity.server import ServerShape, least_bytes
from fleet.errors import PlacementError
from fleet.hardware import AttachedServerSpec
from fleet.history.values import History
from fleet.planning.pipeline import make_plan
from fleet.resources import Server, State
from fleet.spec import FleetSpec
from fleet.vllm.flags import disagreements, with_engines
from fleet.vllm.lora_slots import USABLE, pool_bytes
from tests.fleet.placement.placements import A0, HOSTS, LLAMA, PROFILE, card
from tests.fleet.planning.builders import (
    GIB,
    LLAMA_8B,
    MIB,
    NOON,
    adapter,
    attached,
    fleet,
    host,
    state,
)

ACME = adapter("acme-support-llama-v1.0.0")
FLEET = replace(fleet(ACME, bases=[LLAMA], hosts=HOSTS))


def live(*servers: Server, **versions: str) -> State:
    return state(*servers, versions={f"llama-a-{name}": each for name, each in versions.items()})


def declared(vllm: str) -> FleetSpec:
    hosts = {
        name: replace(each, devices=tuple(replace(one, vllm=vllm) for one in each.devices))
        for name, each in FLEET.hosts.items()
    }
    return replace(FLEET, hosts=hosts)


def known(of: FleetSpec) -> dict[str, str]:
    return {f"{h.name}/{d.name}": d.vllm for h in of.hosts.values() for d in h.devices}


def test_what_a_server_answers_holds_for_its_whole_host() -> None:
    seen = with_engines(FLEET, live(A0, gpu0="0.15.1"))
    assert known(seen) == {"a/gpu0": "0.15.1", "a/gpu1": "0.15.1", "b/gpu0": "", "b/gpu1": ""}
    assert with_engines(seen, live(A0, gpu0="0.15.1")) == seen


def test_what_is_declared_holds_and_a_server_of_another_release_is_told_of() -> None:
    at = live(A0, gpu0="0.31.2")
    assert set(known(with_engines(declared("0.32.0"), at)).values()) == {"0.32.0"}
    assert [*disagreements(declared("0.31.0"), at)] == []
    assert [*disagreements(declared("0.32.0"), at)] == [
        "host `a` declares vLLM 0.32.0, and a server of it runs 0.31.2: it is planned with 0.32.0"
    ]


def test_a_server_that_others_run_tells_its_own() -> None:
    theirs = AttachedServerSpec("far", "http://far:8000", "llama", 8, 16, 0.0)
    of = fleet(bases=[LLAMA], hosts=[attached("cloud", theirs)])
    at = state(Server("far", "llama", "cloud", (), 0, None, None), versions={"far": "0.30.0"})
    assert with_engines(of, at).hosts["cloud"].attached[0].vllm == "0.30.0"


@pytest.mark.parametrize(
    ("vllm", "basis"),
    [
        ("0.11.2", "uncalibrated (vLLM 0.11.2 is older than 0.12, whose layers are known)"),
        ("0.32.0", "uncalibrated"),
        ("0.41.0", "uncalibrated (vLLM 0.41.0 is newer than 0.32, whose layers are known)"),
    ],
)
def test_a_plan_counts_slots_as_the_declared_engine_reserves_them(vllm: str, basis: str) -> None:
    [use] = make_plan(declared(vllm), State(), History(), NOON).capacity
    assert use.slot_bytes == pool_bytes(LLAMA_8B, use.slots, 8, "bfloat16", vllm=vllm)
    assert use.memory_basis == basis


def test_an_observed_engine_reaches_the_plan_like_a_declared_one() -> None:
    at = live(A0, gpu0="0.11.2")
    [use] = make_plan(FLEET, at, History(), NOON).capacity
    assert use.slot_bytes == pool_bytes(LLAMA_8B, 8, 16, "bfloat16", vllm="0.11.2")
    [later] = make_plan(FLEET, live(A0, gpu0="0.32.0"), History(), NOON).capacity
    assert (use.slot_bytes or 0) > (later.slot_bytes or 0)


def test_a_profile_of_another_release_does_not_speak_for_the_servers() -> None:
    measured = replace(declared("0.30.0"), profiles=(PROFILE,))
    [use] = make_plan(measured, State(), History(), NOON).capacity
    assert use.basis == "uncalibrated (measured with vLLM 0.32.0, servers run 0.30.0)"
    [same] = make_plan(replace(measured, hosts=declared("0.32.1").hosts), State(), History(), NOON
                       ).capacity  # fmt: skip
    assert same.basis == "calibrated, residual 2.0 %"
    assert same.memory_basis == "uncalibrated"  # speed was measured, and the reserve was not


def test_what_an_engine_reserves_decides_what_fits() -> None:
    one, small = replace(LLAMA, slots=128, max_lora_rank=16), card("gpu0", memory_bytes=40 * GIB)
    need = {
        vllm: least_bytes(ServerShape(one, replace(small, vllm=vllm), 1, 1, 128, 16, shared=False))
        for vllm in ("0.11.0", "0.32.0")
    }
    between = replace(small, memory_bytes=int((need["0.11.0"] - MIB) / USABLE))
    assert need["0.32.0"] < need["0.11.0"] - 700 * MIB
    newer = fleet(ACME, bases=[one], hosts=[host("a", replace(between, vllm="0.32.0"))])
    assert len(make_plan(newer, State(), History(), NOON).capacity) == 1
    older = fleet(ACME, bases=[one], hosts=[host("a", replace(between, vllm="0.11.0"))])
    with pytest.raises(PlacementError, match="128 slots of rank 16"):
        make_plan(older, State(), History(), NOON)
