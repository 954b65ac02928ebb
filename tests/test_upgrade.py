"""What fleetctl wrote before an upgrade is read, continued and left running after it.

The artefacts of each upgrade lie in a folder of `tests/data`, which says how they came to be.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.secrets import make_key
from tests.witness import OUTPUTS, PLANS, Witness, ask, lay_out

DATA = Path(__file__).parent / "data"
GENERATIONS = ("before_the_move", "before_third_house")
GUESTS = 24
"""Users of acme-support since 2.4.0 has half of them."""


@pytest.fixture(scope="module", params=GENERATIONS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Witness]:
    """The fleet on the servers that ran before; tests change nothing but the usage log."""
    root = tmp_path_factory.mktemp("upgrade") / "project"
    with lay_out(DATA / request.param, root).running() as made:
        yield made


def with_strong_key(witness: Witness) -> None:
    """Put a strong secret in the place of the new client's: one as weak as stored is refused."""
    (witness.state / "keys/globe-prod").write_text(f"{make_key()}\n", encoding="utf-8")


def stored(witness: Witness, name: str) -> str:
    return (witness.folder / "outputs" / name).read_text("utf-8")


def rows(witness: Witness) -> list[dict[str, Any]]:
    log = (witness.state / "gateways/main/usage.jsonl").read_text("utf-8")
    return [json.loads(line) for line in log.splitlines()]


def versions_of_guests(logged: list[dict[str, Any]]) -> list[str]:
    """Return the versions that the last users of acme-support were answered by, in order."""
    asked = [
        row for row in logged if (row["alias"], row["purpose"]) == ("acme-support", "live")
    ]  # fmt: skip
    return [row["version"] for row in asked[-GUESTS:]]


@pytest.mark.parametrize(
    "name",
    [n for n in OUTPUTS if n != "no_changes.txt" and not n.startswith(("usage", "status"))],
)
def test_commands_print_the_same_bytes_of_old_artefacts(fleet: Witness, name: str) -> None:
    done = fleet.call(*OUTPUTS[name])
    assert done.returncode == 0, done.stderr
    assert fleet.as_stored(done.stdout) == stored(fleet, name)


@pytest.mark.parametrize("fleet", GENERATIONS[:1], indirect=True)
def test_a_plan_of_old_artefacts_says_the_same(fleet: Witness) -> None:
    """Later ones know their settings: that a copy listens elsewhere is a change."""
    done = fleet.call(*OUTPUTS["no_changes.txt"])
    assert (done.returncode, done.stdout) == (0, stored(fleet, "no_changes.txt"))


def test_status_prints_the_same_behind_what_waits_for_a_person(fleet: Witness) -> None:
    text = fleet.as_stored(fleet.call(*OUTPUTS["status.txt"]).stdout)
    waits, _, rest = text.partition("\n\n")
    assert waits.startswith("WAITS FOR A PERSON acme-support 2.4.0 at 50 %: ")
    assert rest == stored(fleet, "status.txt").removeprefix(f"{waits}\n\n")
    document = json.loads(fleet.as_stored(fleet.call(*OUTPUTS["status.json"]).stdout))
    assert [version["alias"] for version in document.pop("waiting")] == ["acme-support"]
    before = json.loads(stored(fleet, "status.json"))
    before.pop("waiting", None)
    assert document == before


@pytest.mark.parametrize("name", ["usage_evals.json", "usage_show.json"])
def test_old_rows_are_the_same_and_sum_up_to_the_same(fleet: Witness, name: str) -> None:
    """Times are within 1 % since, users are counted about, and there are more columns."""
    done = fleet.call(*OUTPUTS[name])
    assert done.returncode == 0, done.stderr
    for before, after in zip(json.loads(stored(fleet, name)), json.loads(done.stdout), strict=True):
        same = {key for key in before if "_p" not in key and key != "users"}
        assert {key: after[key] for key in same} == {key: before[key] for key in same}


def test_a_plan_of_the_old_live_state_makes_the_same_changes(fleet: Witness) -> None:
    """New routes name promises since, and servers of the same versions are replaced in turn."""
    live = str(fleet.folder / "live.json")
    with_strong_key(fleet)
    done = fleet.call("--env", "next", "plan", "--live", live, "--format", "json")
    assert done.returncode == 0, done.stderr
    saved = json.loads(stored(fleet, "plan.json"))["decisions"]["changes"]
    changes = json.loads(done.stdout)["decisions"]["changes"]
    for change in (*saved, *changes):
        if change["address"] == "key/globe/prod":
            change["after"].pop("fingerprint", None)
    (new,) = (change for change in changes if change["address"] == "route/globe-language")
    assert new["after"]["policy"]["promise_s"] == 0.4
    if fleet.folder.name == "before_the_move":
        del new["after"]["policy"]["promise_s"]
        new["details"] = [detail for detail in new["details"] if detail[0] != "promise"]
    assert changes == saved


@pytest.mark.parametrize("name", PLANS)
def test_a_saved_plan_is_shown_as_it_was_made(fleet: Witness, name: str) -> None:
    overlay = () if fleet.folder.name == "before_the_move" else ("--env", "next")
    done = fleet.call(*overlay, "show", str(fleet.folder / "saved-plan.json"), *PLANS[name])
    assert done.returncode == 0, done.stderr
    assert done.stdout == stored(fleet, name)


def test_no_server_that_ran_before_is_replaced_or_restarted(fleet: Witness) -> None:
    plan = json.loads(fleet.call("plan", "--format", "json").stdout)
    assert plan["decisions"]["changes"] == []
    listed = json.loads(fleet.call("compile", "--format", "json").stdout)
    found = {server["server"]: server["digest"] for server in listed}
    assert found == {"tiny-laptop-cpu0": "b80e83175f49", "tiny-shelf-cpu0": "b80e83175f49"}


def test_the_chain_of_the_ledger_ends_in_the_hash_that_was_last(fleet: Witness) -> None:
    *_, last = (fleet.folder / "state/ledger.jsonl").read_text("utf-8").splitlines()
    head = json.loads(last)["hash"]
    assert stored(fleet, "evidence_verify.txt").endswith(f", the last one {head}.\n")
    assert fleet.call("evidence", "verify", "--head", head).returncode == 0
    assert fleet.call("evidence", "verify", "--head", head[::-1]).returncode == 1


def test_answers_of_an_evaluation_are_read(fleet: Witness) -> None:
    (run, *_) = json.loads(stored(fleet, "eval_list.json"))
    done = fleet.call("eval", "show", run["run"], "--format", "json")
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout)
    assert (page["golden"], page["golden_digest"], page["wrong_total"]) == (
        "golden/support.jsonl", run["summary"]["golden_digest"], 0,
    )  # fmt: skip


def test_the_gateway_serves_the_old_routing_table(fleet: Witness) -> None:
    (shown,) = json.loads(fleet.call("gateway", "status", "--format", "json").stdout)
    table = json.loads((fleet.state / "routes.json").read_text("utf-8"))
    assert (shown["revision"], shown["newest"]) == (table["revision"], table["revision"])
    assert shown["digest"] == table["digest"]


def test_users_stay_on_the_version_that_they_had(fleet: Witness) -> None:
    before = rows(fleet)
    wanted = versions_of_guests(before)
    assert set(wanted) == {"acme-support-tiny-v2.4.0", "acme-support-tiny-v2.3.0"}
    for number in range(GUESTS):
        assert ask(fleet, "acme-support", f"question {number}", f"guest-{number}")
    added = rows(fleet)[len(before) :]
    assert versions_of_guests(added) == wanted


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_saved_plan_is_read_and_planned_anew_and_the_old_ledger_goes_on(
    generation: str, tmp_path: Path
) -> None:
    with lay_out(DATA / generation, tmp_path / "project").running() as witness:
        plan = str(witness.folder / "saved-plan.json")
        plan_id = json.loads(Path(plan).read_text("utf-8"))["plan_id"]
        assert f"Plan {plan_id} for fleet" in witness.call("show", plan).stdout
        with_strong_key(witness)
        refused = witness.call("--env", "next", "apply", plan, "--yes")
        assert (refused.returncode, "[FC3040]" in refused.stderr) == (5, True)
        shown = json.loads(witness.call("--env", "next", "plan", "--format", "json").stdout)
        command = shown["needs_decision"]["command"].replace("TEXT", "announced")
        assert witness.call(*command.split()[1:]).returncode == 0
        done = witness.call("--env", "next", "apply", "--auto", "--yes")
        assert done.returncode == 0, done.stderr
        assert "The fleet is as planned." in done.stderr
        after = witness.call("--env", "next", "plan", "--detailed-exitcode")
        assert (after.returncode, after.stdout.splitlines()[0]) == (
            0, "No changes. 21 resources are as declared.",
        )  # fmt: skip
        assert ask(witness, "globe-language", "Bitte rufen Sie morgen an.", "u")
        ledger = (witness.state / "ledger.jsonl").read_bytes()
        assert ledger.startswith((witness.folder / "state/ledger.jsonl").read_bytes())
        assert witness.call("evidence", "verify").returncode == 0
