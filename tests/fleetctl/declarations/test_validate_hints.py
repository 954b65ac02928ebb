"""validate warns of what is well-formed and judges nothing, once for many of a kind."""

import json
from pathlib import Path

import pytest

from tests.broken.project import valid, write
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

Found = list[tuple[str, str, str, str]]
TRIAGE = """\
      triage:
        base: tiny
        version: "1.0.0"
"""
GOLDEN = "        golden: golden/x.jsonl\n"
ITEMS = "".join(f'{{"id": "{n}", "input": "ask {n}", "expected": "hi"}}\n' for n in range(80))
SMOKE = "        smoke: [a, b, c, d, e]\n"
WHOLE = "        rollout: careful\n" + SMOKE + GOLDEN
GATES = "  accuracy: {metric: accuracy_drop, max: 3pp}\n"


def warned(root: Path, *edits: tuple[str, str], adapters: str = TRIAGE + WHOLE) -> Found:
    """Validate a project whose two adapters lack nothing but what the edits take away."""
    files = valid()
    acme = files["clients/acme.yaml"].replace(TRIAGE, adapters)
    acme = acme.replace(
        "        latency:", f"        rollout: careful\n{GOLDEN}        latency:", 1
    )
    files |= {"clients/acme.yaml": acme, "golden/x.jsonl": ITEMS}
    for old, new in edits:
        assert any(old in text for text in files.values()), old
        files = {name: text.replace(old, new) for name, text in files.items()}
    write(root, files)
    done = call(Project(root, ()), "validate", "--format", "json")
    assert done.returncode == 0, done.stdout
    shown = json.loads(done.stdout)
    assert {each["severity"] for each in shown} <= {"warning"}
    return [
        (each["code"], f"{each['file']}:{each['line']}", each["detail"], each["hint"])
        for each in shown
        if each["code"] in ("FC1232", "FC1233", "FC1246", "FC1247", "FC1248")
    ]


def test_a_project_that_lacks_nothing_is_told_nothing(tmp_path: Path) -> None:
    assert warned(tmp_path) == []


def test_adapters_without_a_smoke_test_are_one_warning(tmp_path: Path) -> None:
    more = "".join(TRIAGE.replace("triage", name) for name in ("triage",)) + WHOLE
    ((code, place, detail, hint),) = warned(tmp_path, adapters=more.replace(SMOKE, ""))
    assert (code, place) == ("FC1232", "clients/acme.yaml:15")
    assert detail.startswith(
        "Versions of `acme-triage` get traffic, also after a rollback, without"
    )
    assert hint.startswith("Add `smoke: [..., ...]` with 5 to 10 known inputs, at least one of")


def test_of_more_than_ten_inputs_it_is_said_which_are_asked(tmp_path: Path) -> None:
    many = SMOKE.replace("a,", "a, f, g, h, i, j, k,")
    ((code, place, detail, _),) = warned(tmp_path, (SMOKE, many))
    assert (code, place) == ("FC1233", "clients/acme.yaml:19")
    assert detail == "`acme-triage` has 11 inputs, of which the first 10 are asked."


def test_versions_that_take_over_by_time_alone_are_named_with_the_line_to_add(
    tmp_path: Path,
) -> None:
    unjudged, unasked = warned(tmp_path, ("gates: [accuracy]", "gates: []"))
    code, place, detail, hint = unjudged
    assert (code, place) == ("FC1246", "fleet.yaml:27")
    assert "of `acme-support`, `acme-triage`, which take over by time alone: `careful`" in detail
    assert hint == "Add `gates: [accuracy]` to it."
    assert unasked[0] == "FC1248"
    assert unasked[2:] == (
        "No rollout asks `accuracy`, so it stops no version.",
        "Add it to the `gates` of a rollout: `gates: [accuracy]`.",
    )


def test_the_rollout_that_exists_undeclared_has_no_gates_either(tmp_path: Path) -> None:
    ((code, place, detail, hint),) = warned(
        tmp_path, adapters=TRIAGE + WHOLE.replace("careful", "standard")
    )
    assert (code, place) == ("FC1246", "clients/acme.yaml:15")
    assert "`acme-triage`, which take over by time alone: `standard` asks no gate" in detail
    assert hint == "Declare `rollouts: {standard: {gates: [accuracy]}}`."


@pytest.mark.parametrize(
    ("gate", "edits", "place", "says", "add"),
    [
        ("accuracy_drop, max: 3pp", [(GOLDEN, "")], "clients/acme.yaml:7",
         "is judged on a golden set, of which there is none; no version of `acme-support` and 1",
         "golden: golden/FILE.jsonl"),
        ("accuracy_drop, max: 3pp, golden: golden/x.jsonl", [(GOLDEN, "")], "", "", ""),
        ("error_rate_rise, max: 2pp", [('gateways:\n  main: {listen: "127.0.0.1:8080"}\n', "")],
         "fleet.yaml", "requests that gateways write down, and none is", "gateways: {main"),
        ("error_rate_rise, max: 2pp", [], "", "", ""),
        ("error_rate_rise, max: 2pp", [(SMOKE, SMOKE + "        sticky: key\n")],
         "clients/acme.yaml:15", "all requests of one key go to one of them; no version of",
         "sticky: session"),
        ("p95_ratio, max: 2x", [(SMOKE, SMOKE + "        sticky: key\n")], "", "", ""),
        ("format_drop, max: 2pp", [], "clients/acme.yaml:7", "without the declared form",
         "format: json"),
        ("truncation_rise, max: 2pp", [('8080"}', '8080", kind: envoy}')], "fleet.yaml",
         "needs to know the end of answers, which no Envoy writes down", "of fleetctl's own"),
        ("p95_ratio, max: 2x", [('8080"}', '8080", kind: envoy}')], "", "", ""),
        ("replay_drop, max: 3pp", [], "clients/acme.yaml", "asks captured requests again, and",
         "capture: {consent:"),
        ("replay_drop, max: 3pp, golden: golden/x.jsonl", [], "", "", ""),
        ("replay_drop, max: 3pp", [("    keys:", '    capture: {consent: "Ann"}\n    keys:')],
         "", "", ""),
    ],
)  # fmt: skip
def test_a_gate_that_can_pass_no_version_says_why_and_what_to_add(
    tmp_path: Path, gate: str, edits: list[tuple[str, str]], place: str, says: str, add: str
) -> None:
    metric = GATES.replace("accuracy_drop, max: 3pp", gate)
    found = warned(tmp_path, (GATES, metric), *edits)
    if not says:
        assert found == []
        return
    ((code, where, detail, hint),) = found
    assert code == "FC1247"
    assert where.startswith(place)
    assert says in detail
    assert add in hint
