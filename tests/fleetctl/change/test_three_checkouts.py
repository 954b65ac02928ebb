"""Three checkouts with a home: planned in the first, applied in the second, seen in the third."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project
from tests.ports import free_port
from tests.postgres import PASSWORD, PostgresServer

SERVER = "tiny-laptop-cpu0"
SECRET = "the-operators-own-secret-of-this-fleet"


@dataclass(frozen=True)
class Team:
    """The checkouts: of a developer, of a job that applies, of a job that looks."""

    checkouts: tuple[Project, ...]
    is_database: bool

    def plan_ids(self) -> set[str]:
        """Return the ids of the plans of all checkouts."""
        return {planned(checkout)["plan_id"] for checkout in self.checkouts}

    def declare(self, old: str, new: str, name: str = "clients/acme.yaml") -> None:
        for checkout in self.checkouts:
            file = checkout.root / name
            text = file.read_text("utf-8")
            assert old in text
            file.write_text(text.replace(old, new), "utf-8")


def planned(checkout: Project) -> dict[str, str]:
    done = call(checkout, "plan", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(params=[
    pytest.param("postgresql", marks=pytest.mark.postgresql),
    pytest.param("file", marks=pytest.mark.long),
])  # fmt: skip
def team(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Team]:
    monkeypatch.setenv("FLEET_OPERATOR", SECRET)
    first, home = Project.copy(tmp_path / "a", None), "{file: ../truth}"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgresql")
        monkeypatch.setenv("FLEET_DB", server.database().uri)
        home = "{postgresql: env:FLEET_DB}"
    else:
        (tmp_path / "truth").mkdir(0o700)
        assert call(first, "trust", "add", str(tmp_path / "truth")).returncode == 0
    file = first.root / "fleet.yaml"
    admin = f'admin: "http://127.0.0.1:{free_port()}", secret: env:FLEET_OPERATOR}}'
    text = re.sub(
        r'main: \{listen: "([0-9.:]+)"\}',
        rf'main: {{listen: "\1", {admin}',
        file.read_text("utf-8"),
    )
    file.write_text(f"{text}\nstate: {home}\n", "utf-8")
    others = [Project(tmp_path / name, first.options) for name in "bc"]
    state = first.root / ".fleetctl"
    for other in others:
        shutil.copytree(first.root, other.root, ignore=shutil.ignore_patterns(".fleetctl"))
        shutil.copytree(state / "keys", other.root / ".fleetctl/keys")
        (other.root / ".fleetctl/store").symlink_to(state / "store")
    started = call(first, "gateway", "start")
    assert started.returncode == 0, started.stderr
    yield Team((first, *others), request.param == "postgresql")
    first.clean_up()


def applied(done: Done) -> Done:
    assert done.returncode == 0, done.stderr
    return done


def test_a_fleet_is_planned_applied_and_watched_from_three_checkouts(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = team.checkouts
    assert len(team.plan_ids()) == 1, "of a fleet that nobody has applied"
    applied(call(first, "apply", "--auto", "--yes"))
    assert len(team.plan_ids()) == 1
    team.declare('"2.1.0"', '"2.2.0"')
    file = str(tmp_path / "plan.json")
    assert call(first, "plan", "--out", file).returncode == 0
    reviewed = json.loads(Path(file).read_text("utf-8"))["plan_id"]
    assert team.plan_ids() == {reviewed}
    applied(call(second, "apply", file, "--yes"))
    for checkout in (first, third):
        drift = call(checkout, "drift")
        assert drift.returncode == 0, drift.stdout
    assert len(team.plan_ids()) == 1
    assert reviewed in call(third, "history", "--limit", "0", "--format", "json").stdout
    with monkeypatch.context() as patch:
        if team.is_database:
            closed = f"postgresql://x:{PASSWORD}@127.0.0.1:{free_port()}/x"
            patch.setenv("FLEET_DB", closed)
        else:
            (tmp_path / "truth/ledger.jsonl").rename(tmp_path / "aside")
            (tmp_path / "truth/ledger.jsonl").mkdir()
        back = call(third, "rollback", "acme-support", "--reason", "home away")
        assert back.returncode == 0, back.stderr
        assert "1 gateway acknowledged" in back.stdout
        if not team.is_database:
            (tmp_path / "truth/ledger.jsonl").rmdir()
            (tmp_path / "aside").rename(tmp_path / "truth/ledger.jsonl")
    for checkout in (third, first, second):
        told = call(checkout, "history", "acme-support", "--limit", "0").stdout
        assert told.count("home away") == 1, told
    assert len(team.plan_ids()) == 1
    held = [call(checkout, "status", "--client", "acme").stdout for checkout in team.checkouts]
    assert all("held: 2.2.0" in text for text in held), held
    first.kill_servers()
    healed = call(second, "reconcile", "--once")
    assert f"Heals server/{SERVER}: the server has ended" in healed.stderr, healed.stderr
    assert healed.returncode == 0, healed.stderr
    assert call(first, "drift").returncode == 0, "what another checkout started is known"
    assert len(team.plan_ids()) == 1
    assert SERVER in call(third, "server", "list").stdout
    assert call(third, "server", "stop", SERVER).returncode == 0
    assert f"{SERVER}  ended" in call(first, "server", "list").stdout


def test_what_is_approved_in_a_checkout_is_applied_in_another(team: Team) -> None:
    first, second, third = team.checkouts
    applied(call(first, "apply", "--auto", "--yes"))
    team.declare("max_model_len: 512", "max_model_len: 256", "fleet.yaml")
    (plan,) = team.plan_ids()
    document = json.loads(call(first, "plan", "--format", "json").stdout)
    out = document["needs_decision"]["clients_out"]
    assert out > 1

    def refusal(checkout: Project, name: str) -> str:
        done = call(checkout, "apply", "--plan-id", name, "--yes")
        assert done.returncode == 5, done.stderr
        return done.stderr

    assert "Nobody has approved it" in refusal(second, plan)
    for other, accepted in (("0" * 16, out), (plan, out)):
        told = refusal(second, plan)
        assert ("FC5126" in told, f"fleetctl approve {plan} --accept-outage {out}" in told) == (
            True,
            True,
        )
        accept = ("--accept-outage", str(accepted), "--reason", "Sunday")
        applied(call(first, "approve", other, *accept, actor="ana"))
    assert "FC3045" in refusal(second, "0" * 16), "the id of a plan that is not due"
    applied(call(second, "apply", "--plan-id", plan, "--yes"))
    told = call(third, "history").stdout
    assert f"approved plan {plan} with an outage of {out} clients: Sunday" in told
    team.declare("max_model_len: 256", "max_model_len: 512", "fleet.yaml")
    (back,) = team.plan_ids()
    assert back != plan
    assert "Nobody has approved it" in refusal(first, back)


def test_recorded_demand_makes_the_same_plan_in_every_checkout_that_has_the_record(
    team: Team,
) -> None:
    applied(call(team.checkouts[0], "apply", "--auto", "--yes"))
    (declared,) = team.plan_ids()
    demand = '{peak_rpm: 30, hours: "09-18", timezone: Europe/Paris, '
    team.declare(demand + "prompt_tokens: 40, output_tokens: 10}", "{observed: true}")
    hours = {alias: {"rpm": [20] * 24} for alias in ("acme-support", "acme-triage")}
    span = {"since": "2026-03-02T00:00:00Z", "until": "2026-03-09T00:00:00Z"}
    record = json.dumps({"format": 1, **span, "adapters": hours})
    for checkout in team.checkouts:
        (checkout.root / "demand.json").write_text(record, "utf-8")
    (recorded,) = team.plan_ids()
    assert recorded != declared
    (team.checkouts[2].root / "demand.json").unlink()
    refused = call(team.checkouts[2], "plan")
    assert refused.returncode == 1
    assert "FC1226" in refused.stderr
