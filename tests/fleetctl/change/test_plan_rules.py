"""Plan rules: shown by `plan`, asked by `apply` at its time, with exceptions and approvals."""

import json
from collections.abc import Iterator

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied

ALWAYS = '["Mon 00:00-Fri 00:00", "Thu 00:00-Tue 00:00"]'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied, with 2.2.0 of acme-support declared."""
    for made in applied(tmp_path_factory.mktemp("fleet")):
        acme = made.root / "clients/acme.yaml"
        text = acme.read_text("utf-8")
        acme.write_text(text.replace('version: "2.1.0"', 'version: "2.2.0"'), "utf-8")
        yield made


@pytest.fixture(autouse=True)
def declared(project: Project) -> Iterator[None]:
    """Take the rules of a test back after it."""
    file = project.root / "fleet.yaml"
    text = file.read_text("utf-8")
    yield
    file.write_text(text, "utf-8")


def rule(project: Project, text: str) -> None:
    file = project.root / "fleet.yaml"
    file.write_text(f"{file.read_text('utf-8')}\nplan_rules:\n  r: {text}\n", "utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{{closed: {ALWAYS}, timezone: Europe/Paris}}", "(Europe/Paris), now until"),
        (
            "{max_traffic_per_day: 0%}",
            "of all traffic, after 0 % in the last 24 hours; at most 0 %",
        ),
    ],
)
def test_a_plan_that_a_rule_denies_is_shown_and_not_applied(
    project: Project, text: str, said: str
) -> None:
    rule(project, text)
    for form in ("text", "md", "html", "json"):
        shown = call(project, "plan", "--format", form)
        assert shown.returncode == 1
        assert said in shown.stdout
    assert "not allowed" in call(project, "plan").stdout
    found = json.loads(call(project, "plan", "--format", "json").stdout)["observations"]["rules"]
    assert [(its["rule"], its["level"], its["broken"]) for its in found] == [("r", "deny", True)]
    refused = call(project, "apply", "--auto", "--yes")
    assert refused.returncode == 1
    assert "FC5127" in refused.stderr
    assert said in " ".join(refused.stderr.split())


def test_a_warning_is_told_by_apply_and_an_exception_that_holds_is_named(project: Project) -> None:
    rule(project, f"{{level: warn, closed: {ALWAYS}}}")
    shown = call(project, "plan")
    assert shown.returncode == 0
    assert "look before you apply\n  rule r: closed" in shown.stdout
    rule_with = "exceptions: {launch: {client: acme, until: 2999-01-01, reason: launch}}"
    file = project.root / "fleet.yaml"
    file.write_text(file.read_text("utf-8").replace("level: warn", rule_with), "utf-8")
    shown = call(project, "plan")
    assert shown.returncode == 0
    assert "kept r: " in shown.stdout
    assert "exception `launch` until 2999-01-01" in shown.stdout


def test_a_tier_of_two_approvals_waits_for_two_people(project: Project) -> None:
    rule(project, "{two_approvals: premium}")
    shown = call(project, "plan", "--format", "json")
    plan = json.loads(shown.stdout)
    assert shown.returncode == 0
    assert [its["kind"] for its in plan["needs_decision"]["causes"]] == ["approvals"]
    command = plan["needs_decision"]["command"].replace("TEXT", "agreed").split()[1:]
    for person, has in (("ana", 0), ("ana", 1), ("bo", 1)):
        refused = call(project, "apply", "--auto", "--yes")
        assert refused.returncode == 5
        assert f"needs the approvals of 2 people, and has {has}" in refused.stderr
        assert call(project, *command, actor=person).returncode == 0
    assert call(project, "apply", "--auto", "--yes").returncode == 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{level: deny}", "FC1290"),
        ("{max_cost_rise: 5%, two_approvals: premium}", "FC1290"),
        ("{two_approvals: premum}", "FC1201"),
        ("{signed: premum}", "FC1201"),
        ("{signed: premium}", "FC1292"),
        (f"{{closed: {ALWAYS}, timezone: Europe/Pariss}}", "FC1206"),
        ("{max_cost_rise: 5%, exceptions: {e: {until: 2999-01-01, reason: r}}}", "FC1291"),
        ("{max_cost_rise: 5%, exceptions: {e: {client: acm, until: 2999-01-01, reason: r}}}",
         "FC1291"),
        ("{max_cost_rise: 5%, exceptions: {e: {client: acme, reason: r}}}", "FC1004"),
        ("{signed_adapters: true}", "FC1003"),
    ],
)  # fmt: skip
def test_a_rule_that_says_nothing_is_refused_at_its_place(
    project: Project, text: str, code: str
) -> None:
    rule(project, text)
    done = call(project, "validate")
    assert done.returncode == 1
    assert code in done.stderr + done.stdout
    assert "fleet.yaml:" in done.stderr + done.stdout
