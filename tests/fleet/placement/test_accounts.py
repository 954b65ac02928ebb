"""What a server holds and carries is drawn up from the declarations and the laws."""

from dataclasses import replace

import pytest

from fleet.placement.model.accounts import placement_accounts
from fleet.placement.model.state import PlacementResult
from fleet.spec import DemandSpec, FleetSpec
from fleet.vllm.lora_slots import pool_bytes
from tests.fleet.placement.placements import (
    A0,
    BIRCH,
    CEDAR,
    GOOD,
    PLAIN,
    also,
    declared,
    placed,
    server,
    with_rank,
)
from tests.fleet.planning.builders import LLAMA_8B, adapter


def test_versions_of_one_alias_on_one_server_share_its_load() -> None:
    newer = "birch-support-llama-v1.1.0"
    one = residents_load(PLAIN, GOOD)
    two = residents_load(
        replace(PLAIN, versions={**PLAIN.versions, newer: PLAIN.versions[BIRCH]}),
        replace(GOOD, bindings={**GOOD.bindings, newer: (A0.name,)}),
    )
    assert one == two


def residents_load(of: FleetSpec, placement: PlacementResult) -> tuple[float, ...]:
    return placement_accounts(of, placement)[A0.name].load


def test_an_account_tells_what_a_large_rank_costs_the_others() -> None:
    of = with_rank(PLAIN, BIRCH, 64)
    large = also(server("a/gpu0", max_lora_rank=64))
    account = placement_accounts(of, large)[A0.name]
    assert account.inflation is not None
    assert account.inflation.adapters == (BIRCH,)
    assert (account.inflation.rank, account.inflation.without, account.inflation.slots) == (
        64, 8, 7,
    )  # fmt: skip
    all_slots = account.slot_bytes or 0
    assert account.inflation.bytes == all_slots - (pool_bytes(LLAMA_8B, 8, 8) or 0)
    assert account.inflation.bytes / all_slots == pytest.approx((64 - 8) / 64, abs=0.01)
    assert account.inflation.kv_tokens == account.inflation.bytes // (128 << 10)
    assert account.kv_tokens_per_slot == all_slots // 8 // (128 << 10)
    assert placement_accounts(PLAIN, GOOD)[A0.name].inflation is None


def test_an_account_tells_the_worst_hour() -> None:
    night = DemandSpec(peak_rpm=60, hours=(2, 4), prompt_tokens=0, output_tokens=100)
    of = declared(adapter(BIRCH, demand=night), adapter(CEDAR))
    account = placement_accounts(of, placed({BIRCH: (A0.name,), CEDAR: (A0.name,)}, A0))[A0.name]
    assert account.load == tuple(100.0 if hour in (2, 3) else 0.0 for hour in range(24))
    assert account.worst_hour == 2
    assert 0 < account.peak < 1
    assert account.utilization(5) == 0
    assert (account.pinned, account.cached, account.slots, account.basis.source) == (
        2, 0, 8, "calibrated",
    )  # fmt: skip
