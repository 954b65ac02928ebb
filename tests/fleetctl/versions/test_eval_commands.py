"""eval run, list, show, drift and import on the fake server, whose answers are made up."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

NAME = "fjord-reviews-tiny-v1.0.0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied, with small golden sets."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    for path in (made.root / "golden").glob("*.jsonl"):
        few = path.read_bytes().splitlines(keepends=True)[:5]
        path.write_bytes(b"".join(few))
    done = call(made, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()


def told(project: Project, *arguments: str, code: int = 0) -> Any:
    done = call(project, "eval", *arguments, "--format", "json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_an_evaluation_is_written_down_everywhere_it_is_looked_for(project: Project) -> None:
    found = told(project, "run", "fjord-reviews")["evaluations"]
    assert [(each["purpose"], each["adapter"]) for each in found] == [
        ("anchor", NAME),
        ("aa", NAME),
    ]
    first, again = (each["summary"] for each in found)
    assert (first["valid"], first["n"], first["missing"], first["accuracy"]) == (True, 5, 0, 0.0)
    assert again["compared"] == {"accuracy": {"n": 5, "changed": 0, "worse": 0}}
    rows = told(project, "list", "fjord-reviews")
    assert [each["run"] for each in rows] == [each["run"] for each in found]
    page = told(project, "show", found[0]["run"][:7], "--wrong", "2")
    assert (page["golden"], len(page["wrong"]), page["wrong_total"]) == (
        "golden/reviews.jsonl",
        2,
        5,
    )
    assert page["golden_digest"] == first["golden_digest"]
    assert call(project, "adapter", "verify", NAME).returncode == 0
    assert f"evaluated {NAME} (anchor): accuracy 0.0%" in call(project, "history").stdout


def test_an_alias_that_there_is_not_is_no_empty_list(project: Project) -> None:
    for words in (("list", "fjord-review"), ("drift", "fjord-review")):
        done = call(project, "eval", *words)
        assert (done.returncode, "Did you mean `fjord-reviews`?" in done.stderr) == (1, True)
    assert call(project, "eval", "list", "acme-support").returncode == 0


def test_answers_of_the_fake_engine_leave_the_library_as_it_is(project: Project) -> None:
    before = {each: each.read_bytes() for each in project.root.rglob("models/**/evals/*")}
    done = call(project, "eval", "run", "acme-triage")
    assert done.returncode == 0, done.stderr
    assert "made up by the fake engine" in done.stdout
    assert before
    after = {each: each.read_bytes() for each in project.root.rglob("models/**/evals/*")}
    assert after == before


def test_what_is_due_is_evaluated_once_and_then_nothing_is(project: Project) -> None:
    first = told(project, "run", "--due")
    assert first["failed"] == []
    assert "acme-support" in {each["alias"] for each in first["evaluations"]}
    assert told(project, "run", "--due")["evaluations"] == []
    again = told(project, "run", "acme-support")["evaluations"]
    assert [each["purpose"] for each in again] == ["anchor"]
    rows = told(project, "drift", "acme-support")
    assert [(each["rule"], each["standing"]) for each in rows] == [("anchor", "steady")]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("nobody-there",), 1, "FC5123"),
        (("acme-support", "--version", "2.3.0"), 1, "FC4507"),
        (("acme-support", "--golden", "golden/none.jsonl"), 1, "FC6702"),
        (("acme-support", "--engine", "natve"), 1, "did you mean `native`"),
        ((), 64, "--all or --due"),
        (("--all", "--due"), 64, "--all or --due"),
        (("--all", "--version", "1.0.0"), 64, "one alias"),
    ],
)
def test_what_cannot_be_evaluated_says_why(
    project: Project, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = call(project, "eval", "run", *arguments)
    assert done.returncode == code
    assert says.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_any_name_that_a_server_serves_can_be_asked(project: Project) -> None:
    status = json.loads(call(project, "status", "--format", "json").stdout)
    url = status["servers"][0]["url"]
    asked = ("run", "tiny", "--url", url, "--golden", "golden/units.jsonl")
    [found] = told(project, *asked)["evaluations"]
    assert (found["adapter"], found["purpose"], found["summary"]["n"]) == ("tiny", "smoke", 5)
    assert call(project, "eval", *asked, "--key", "env:NOT_SET").returncode == 1
    assert call(project, "eval", "run", "tiny", "--url", url).returncode == 64
    nobody = call(project, "eval", "run", "nobody", "--url", url, "--golden", "golden/units.jsonl")
    assert (nobody.returncode, "FC4501" in nobody.stderr) == (1, True)


def test_a_bad_golden_set_is_refused_whole_and_nothing_is_written_down(project: Project) -> None:
    path = project.root / "golden" / "bad.jsonl"
    line = '{"id": "a", "input": "x", "expected": "y"}\n'
    path.write_text(line + line + '{"id": "b"}\n', encoding="utf-8")
    before = len(told(project, "list", "--limit", "0"))
    done = call(project, "eval", "run", "acme-support", "--golden", "golden/bad.jsonl")
    assert done.returncode == 1
    assert "golden/bad.jsonl:2:1" in done.stderr
    assert "golden/bad.jsonl:3:1" in done.stderr
    assert len(told(project, "list", "--limit", "0")) == before


def test_results_of_other_tools_are_taken_over_or_refused_whole(project: Project) -> None:
    sample = {
        "doc_id": 0, "doc": {"id": "a"}, "target": "y", "resps": [["y"]], "filtered_resps": ["y"],
        "arguments": {"gen_args_0": {"arg_0": "x", "arg_1": {"temperature": 0}}},
        "metrics": ["exact_match"], "exact_match": 1.0,
    }  # fmt: skip
    path = project.root / "samples.jsonl"
    rows = [sample, sample | {"doc": {"id": "b"}, "exact_match": 0.0}]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    options = ("--from", "lm-eval", "--as", NAME)
    found = told(project, "import", str(path), *options)
    assert (found["purpose"], found["summary"]["accuracy"], found["summary"]["n"]) == (
        "rolling",
        0.5,
        2,
    )
    likely = sample | {"arguments": {"gen_args_0": {"arg_0": "x", "arg_1": " yes"}}}
    path.write_text(json.dumps(likely), encoding="utf-8")
    refused = call(project, "eval", "import", str(path), *options)
    assert (refused.returncode, "log likelihood" in refused.stderr) == (1, True)
    path.write_text(
        json.dumps({"eval": {}, "status": "error", "error": {"message": "boom"}}), "utf-8"
    )
    refused = call(project, "eval", "import", str(path), "--from", "inspect", "--as", NAME)
    assert (refused.returncode, "boom" in refused.stderr) == (1, True)
