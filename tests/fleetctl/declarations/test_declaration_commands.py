"""validate, schema, fmt and config, as one types them."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from fleetctl.cli import main
from tests.broken.project import valid, write


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, valid() | {"env/prod.yaml": "tiers: {premium: {replicas: 2}}\n"})
    return tmp_path


def run(project: Path, *arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(project), *arguments])
    return int(stopped.value.code or 0)


def test_validate_says_ok_in_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "validate") == 0
    out = capsys.readouterr()
    assert out.out == "demo: ok (1 client, 2 adapters, 1 base, 2 hosts, 2 files)\n"
    assert "Error" not in out.err
    assert out.err.count("Warning:") == 2  # an adapter has no smoke test, a gate no golden set


def test_validate_prints_the_problem_as_in_the_style_guide(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (project / "clients/acme.yaml").read_text()
    (project / "clients/acme.yaml").write_text(text.replace('"2.1.0"', '"9.0.0"'))
    assert run(project, "validate") == 1
    out = capsys.readouterr()
    assert out.out == ""
    assert (
        out.err
        == """\
Error: Adapter rank above the server's limit [FC1211]
  at clients/acme.yaml:9:18
  9 |         version: "9.0.0"
    |                  ^^^^^^^
  limited at fleet.yaml:11:5

`acme-support-tiny-v9.0.0` has rank 64, and the servers of base `tiny` reserve slots of rank 16. A
server refuses an adapter above its limit. Raise `max_lora_rank` of `tiny`, which restarts its
servers.
"""
    )


@pytest.mark.parametrize("form", ["json", "github", "sarif", "codequality"])
def test_validate_for_programs_writes_to_stdout(
    project: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    (project / "x.yaml").write_text("gates: {b: {metric: error_rate, max: 2pp}}\n")
    assert run(project, "validate", "--format", form) == 1
    out = capsys.readouterr()
    assert out.err == ""
    assert "FC1214" in out.out
    (project / "x.yaml").unlink()
    assert run(project, "validate", "--format", form) == 0
    assert "FC1214" not in capsys.readouterr().out


def test_sarif_has_the_fields_that_the_standard_requires(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "x.yaml").write_text("tiers: {a: {replicas: 0}, b: {replicas: x}}\n")
    run(project, "validate", "--format", "sarif")
    log = json.loads(capsys.readouterr().out)
    (one,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert one["tool"]["driver"]["name"] == "fleetctl"
    rules = [rule["id"] for rule in one["tool"]["driver"]["rules"]]
    assert [result["ruleId"] for result in one["results"]] == ["FC1111", "FC1101"]
    assert rules == ["FC1101", "FC1111"]
    assert one["results"][0]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "x.yaml"},
        "region": {"startLine": 1, "startColumn": 23, "endColumn": 24},
    }


def test_sixty_problems_of_a_kind_are_told_once_as_text(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiers = "".join(f"  t{number}: {{replicas: 0}}\n" for number in range(60))
    (project / "x.yaml").write_text(f"tiers:\n{tiers}")
    run(project, "validate")
    shown = capsys.readouterr().err
    assert shown.count("Error:") == 1
    assert "The same in 59 more places:\n  x.yaml:3:18" in shown
    assert "… and 39 more\n" in shown
    run(project, "validate", "--format", "json")
    assert len(json.loads(capsys.readouterr().out)) == 60


def test_the_schema_accepts_what_validate_accepts(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "schema") == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for name in ("fleet.yaml", "clients/acme.yaml", "env/prod.yaml"):
        validator.validate(yaml.safe_load((project / name).read_text()))
    wrong = {"clients": {"acme": {"tier": "premium", "fee": 3}}}
    assert [each.json_path for each in validator.iter_errors(wrong)] == ["$.clients.acme"]
    filled = {"clients": {"acme": {"monthly_fee": "${var.fee}", "x-own": 1}}}
    assert validator.is_valid(filled)


def test_every_key_of_the_schema_is_described(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(project, "schema", "--out", str(project / "schema.json"))
    assert capsys.readouterr().out == ""
    schema = json.loads((project / "schema.json").read_text())
    models = [schema, *schema["$defs"].values()]
    bare = [
        f"{model['title']}.{name}"
        for model in models
        for name, each in model.get("properties", {}).items()
        if "description" not in each
    ]
    assert bare == []


def test_config_show_says_where_each_value_comes_from(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "--env", "prod", "config", "show", "--origin", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    triage = "clients.acme.adapters.triage"
    assert found["clients.acme.keys.prod"]["value"] == "env:ACME_KEY"
    assert found[f"{triage}.version"] == {"value": "1.0.0", "origin": "clients/acme.yaml:15:18"}
    assert found[f"{triage}.rollout"] == {
        "value": "careful",
        "origin": "defaults.rollout, fleet.yaml:2:36",
    }
    assert found[f"{triage}.replicas"] == {
        "value": 2,
        "origin": "tiers.premium.replicas, env/prod.yaml:1:29",
    }
    assert found["rollouts.careful.bake"] == {"value": "24h", "origin": "fleet.yaml:27:46"}
    assert found["clients.acme.bill_evals"] == {
        "value": False,
        "origin": "tiers.premium.bill_evals, built in",
    }
    assert found["tiers.standard.replicas"] == {"value": 1, "origin": "built in"}
    assert found["defaults.latency"] == {"value": "short_generation", "origin": "built in"}


def test_config_show_takes_a_part(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "config", "show", "tiers.premium") == 0
    assert capsys.readouterr().out == (
        'tiers.premium.replicas: 1\ntiers.premium.retrain_every: "30d"\n'
        'tiers.premium.spread: "device"\ntiers.premium.isolation: "shared"\n'
        'tiers.premium.residency: "pinned"\n'
        "tiers.premium.staff_hours: 0.0\ntiers.premium.staff_rate: 0.0\n"
        "tiers.premium.slo.classification: null\n"
        "tiers.premium.slo.short_generation: null\ntiers.premium.slo.long_generation: null\n"
        "tiers.premium.limits.concurrency: null\n"
        "tiers.premium.limits.requests_per_minute: null\n"
        "tiers.premium.limits.tokens_per_minute: null\n"
        "tiers.premium.limits.requests_per_month: null\n"
        "tiers.premium.limits.tokens_per_month: null\n"
        "tiers.premium.limits.budget: null\ntiers.premium.limits.queue: null\n"
        "tiers.premium.timeouts.first_byte: null\ntiers.premium.timeouts.idle: null\n"
        "tiers.premium.timeouts.total: null\ntiers.premium.bill_evals: false\n"
        "tiers.premium.weight: 1\n"
    )
    assert run(project, "config", "show", "tier") == 1
    assert "nothing is declared at `tier`" in capsys.readouterr().err


def test_fmt_check_names_files_and_fmt_writes_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "fmt") == 0
    capsys.readouterr()
    untidy = "tiers: { premium: {replicas: 2} }\n"
    (project / "env/prod.yaml").write_text(untidy)
    assert run(project, "fmt", "--check") == 1
    assert capsys.readouterr().out == f"{project / 'env/prod.yaml'}\n"
    assert run(project, "fmt", "--diff") == 1
    assert "+tiers: {premium: {replicas: 2}}\n" in capsys.readouterr().out
    assert (project / "env/prod.yaml").read_text() == untidy
    assert run(project, "fmt") == 0
    assert (project / "env/prod.yaml").read_text() == "tiers: {premium: {replicas: 2}}\n"
    assert run(project, "fmt", "--check") == 0


def test_fmt_touches_no_folder_that_is_no_fleet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "somebody_elses.yaml").write_text("a:   {}\n")
    assert run(tmp_path, "fmt") == 1
    assert "FC1010" in capsys.readouterr().err
    assert (tmp_path / "somebody_elses.yaml").read_text() == "a:   {}\n"


def test_fmt_reports_what_it_cannot_read_and_formats_the_rest(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "a.yaml").write_text("tiers: [\n")
    (project / "b.yaml").write_text("tiers:   {}\n")
    assert run(project, "fmt") == 1
    out = capsys.readouterr()
    assert str(project / "b.yaml") in out.out
    assert "FC1001" in out.err
    assert (project / "b.yaml").read_text() == "tiers: {}\n"


def test_a_file_that_is_not_utf8_is_left_alone(project: Path) -> None:
    (project / "b.yaml").write_bytes(b"tiers:   {}  # \xff\n")
    run(project, "fmt")
    assert (project / "b.yaml").read_bytes() == b"tiers:   {}  # \xff\n"


def test_a_state_folder_that_cannot_be_is_an_error_and_no_traceback(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = project / "fleet.yaml" / "state"
    assert run(project, "--state-dir", str(nowhere), "plan") == 1
    error = capsys.readouterr().err
    error = error.removeprefix("Observing the servers…\n")  # on a slow machine
    assert error.startswith("Error: A file cannot be read or written [FC1015]")
    assert str(nowhere) in error
