"""Each broken declaration: a clear error with its place and remedy, never a traceback."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet.errors import ConfigError
from fleetctl.cli import main_group
from plans.diagnostics import RENDERERS, render_text
from runtime.project.load import load_project
from tests.broken.case import Case
from tests.broken.cases import CASES
from tests.broken.project import broken, valid, write


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused_with_place_and_remedy(case: Case, tmp_path: Path) -> None:
    write(tmp_path, broken(case))
    environment = "prod" if case.file.startswith("env/") else None
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, environment, {})
    found = caught.value.diagnostics
    matching = [each for each in found if each.code == case.code]
    assert [str(each.place or "") for each in matching] == [case.place], render_text(found)
    shown = " ".join(render_text(matching).split())
    assert " ".join(case.says.split()) in shown
    assert all(len(render(found)) > 0 for render in RENDERERS.values())


def test_the_corpus_is_large_and_meets_every_code_of_a_declaration() -> None:
    assert len(CASES) >= 100
    assert len({case.name for case in CASES}) == len(CASES)


def test_all_problems_are_reported_at_once_in_order(tmp_path: Path) -> None:
    files = valid()
    files["clients/acme.yaml"] = (
        files["clients/acme.yaml"]
        .replace("tier: premium", "tier: premum")
        .replace('"2.1.0"', "1.10")
        .replace("Europe/Paris", "Europe/Pariss")
    )
    files["fleet.yaml"] = files["fleet.yaml"].replace("24h", "24").replace("[accuracy]", "[x]")
    write(tmp_path, files)
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, None, {})
    assert [(each.code, str(each.place)) for each in caught.value.diagnostics] == [
        ("FC1201", "clients/acme.yaml:3:11"),
        ("FC1103", "clients/acme.yaml:9:18"),
        ("FC1105", "fleet.yaml:27:46"),
        ("FC1204", "fleet.yaml:27:70"),
    ]


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    files = valid()
    line = 'keys: {prod: sk-live-7f3a, Other: "env:X", bad: sk-live-9b}'
    files["clients/acme.yaml"] = files["clients/acme.yaml"].replace(
        'keys: {prod: "env:ACME_KEY"}', line
    )
    write(tmp_path, files)
    for form in RENDERERS:
        result = CliRunner().invoke(
            main_group, ["-C", str(tmp_path), "validate", "--format", form], catch_exceptions=True
        )
        shown = result.output + repr(result.exception)
        assert "sk-live" not in shown
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, None, {})
    assert {each.code for each in caught.value.diagnostics} == {"FC1102", "FC1110"}


def test_the_machine_readable_forms_agree_with_each_other(tmp_path: Path) -> None:
    write(tmp_path, broken(next(case for case in CASES if case.name == "rank too large")))
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, None, {})
    found = caught.value.diagnostics
    (as_json,) = json.loads(RENDERERS["json"](found))
    (as_sarif,) = json.loads(RENDERERS["sarif"](found))["runs"][0]["results"]
    region = as_sarif["locations"][0]["physicalLocation"]["region"]
    assert (as_json["line"], as_json["column"]) == (region["startLine"], region["startColumn"])
    assert as_json["also"][0] == {
        "label": "limited at",
        "file": "fleet.yaml",
        "line": 11,
        "column": 5,
    }
    assert RENDERERS["github"](found).startswith(
        "::error file=clients/acme.yaml,line=9,col=18,endColumn=25,"
        "title=Adapter rank above the server's limit [FC1211]::"
    )


def test_a_library_that_is_not_here_is_a_warning_where_versions_are_locked(tmp_path: Path) -> None:
    write(tmp_path, valid())
    (tmp_path / "models").rmdir()
    (warning,) = load_project(tmp_path, None, {}).warnings
    assert (warning.code, "`models` is not here" in warning.detail) == ("FC1258", True)
    (tmp_path / "models").mkdir()
    assert load_project(tmp_path, None, {}).warnings == ()
