"""A diagnosis is read from the cause to the cheapest way out."""

import json
from dataclasses import replace

import pytest

from fleet.advice.candidates import Advice, Diagnosis, Tightest
from fleet.advice.trial import diagnose
from fleet.placement.model.causes import Attempt, Limit, PlacementCause, TotalNeed
from plans.explain.diagnosis import render_json, render_text
from tests.fleet.placement.infeasible_fleets import FLEETS
from tests.fleet.planning.builders import NOON, history

CLASH = (
    "`llama-a-gpu0` would be asked for 8750 tokens/s at 14:00 UTC and may carry 6295 "
    "(acme-faq 2917, birch-faq (batch window) 2917, cedar-faq 2917)"
)
WINDOW = Advice(
    "batch window of birch-faq at 00-02", (), '`batch: "00-02"` (now 14-16, UTC)',
    "clients/birch.yaml:9:7", 0.0, restarts=1, moves=2,
)  # fmt: skip
MORE = Advice(
    "1 more h100_80g", ("gpu h100_80g +1",), "declare 1 more device of kind `h100_80g`",
    "", 2.0, restarts=0, moves=0, devices=1,
)  # fmt: skip
COLLISION = Diagnosis(
    fleet="prod",
    fits=False,
    lacking=("cedar-faq-llama-v1.0.0",),
    causes=(
        PlacementCause(Limit.THROUGHPUT, "llama", ("cedar-faq-llama-v1.0.0",), primary=True,
              text=CLASH, need=8750, have=6295, hour=14),
        PlacementCause(Limit.CORDONED, "llama", ("acme-faq-llama-v1.0.0",), primary=False,
              text="`a/gpu1` is cordoned", need=1, have=0, hour=None),
    ),
    totals=(TotalNeed("llama", 3, 2, 4, 8750.0, 6421.0, 14, 1, 1),),
    trials=(Attempt("cedar-faq-llama-v1.0.0", "h100_80g", None),),
    remedies=(WINDOW, MORE),
    tried=7,
)  # fmt: skip


def diagnosed(name: str) -> Diagnosis:
    planted = FLEETS[name]
    return diagnose(planted.fleet, planted.live, history(), NOON)


def test_it_goes_from_the_cause_to_the_cheapest_way_out() -> None:
    assert render_text(COLLISION) == (
        "Fleet prod does not fit: no place for 1 version.\n"
        "  cedar-faq-llama-v1.0.0\n"
        "\n"
        "Why:\n"
        "  throughput (base llama): `llama-a-gpu0` would be asked for 8750 tokens/s at 14:00 UTC "
        "and may carry 6295 (acme-faq 2917, birch-faq (batch window) 2917, cedar-faq 2917)\n"
        "  also, cordoned device (base llama): `a/gpu1` is cordoned [acme-faq-llama-v1.0.0]\n"
        "\n"
        "All together   Replicas             Slots   Devices                     "
        "Tokens/s in the worst hour\n"
        "llama          3 wanted, 2 placed   4       1 of 1 that could hold it   "
        "8750 asked, 6421 carried (14:00 UTC)\n"
        "\n"
        "What helps, cheapest first (each planned with; 7 changes tried):\n"
        "  1. batch window of birch-faq at 00-02: +0.00 per hour, 1 restart and 2 moves.\n"
        '     `batch: "00-02"` (now 14-16, UTC) [clients/birch.yaml:9:7]\n'
        "  2. 1 more h100_80g: +2.00 per hour.\n"
        "     declare 1 more device of kind `h100_80g`\n"
        "     fleetctl plan --what-if 'gpu h100_80g +1'\n"
    )


def test_of_many_remedies_the_first_five_are_shown() -> None:
    many = replace(COLLISION, remedies=(WINDOW, *[MORE] * 6))
    assert "… and 2 more: fleetctl diagnose --format json" in render_text(many)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("memory of a device", ["Alone on the best empty device", "l4_8g", "price not known"]),
        ("a pin to a full host", ["pin (base mini): it is pinned to `a`", "also, devices"]),
        ("an attached server that is full", ["not known carried", "--max-loras 2"]),
        ("LoRA slots", ["no place for 13 versions", "and 7 more"]),
    ],
)
def test_what_a_diagnosis_tells(name: str, words: list[str]) -> None:
    text = render_text(diagnosed(name))
    for word in words:
        assert word in text


def test_where_nothing_helps_the_reader_is_told_how_much_was_tried() -> None:
    found = diagnosed("rank")
    text = render_text(Diagnosis("test", fits=False, lacking=found.lacking, tried=9))
    assert "No single change helps (9 changes tried)" in text


def test_a_fleet_that_fits_is_told_with_what_it_runs_out_of_first() -> None:
    slots = Tightest("llama-a-gpu1", "slots", 0.5, "llama-a-gpu1 has 2 of 4 slots taken")
    assert render_text(Diagnosis("prod", fits=True, tightest=(slots,))) == (
        "Fleet prod fits.\nTightest in slots (50 %): llama-a-gpu1 has 2 of 4 slots taken.\n"
    )


def test_the_json_form_holds_everything_and_no_infinity() -> None:
    document = json.loads(render_json(diagnosed("an attached server that is full")))
    assert document["format"] == "fleetctl-diagnosis"
    assert document["fits"] is False
    assert document["totals"][0]["carried"] is None
    assert document["causes"][0]["limit"] == "slots"
    assert [each["text"] for each in document["remedies"]] == [
        "max_loras 2 on server big",
        "residency cached for all on llama",
    ]
