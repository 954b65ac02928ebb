"""`fleetctl usage`: sums of the store, last rows of the logs, billed evaluations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetctl.cli import main
from tests.broken.project import valid, write
from tests.runtime.usage.test_parquet import NEW, OLD, logged, row

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    write(tmp_path, valid())
    state = tmp_path / ".fleetctl"
    state.mkdir(mode=0o700)
    logged(
        state,
        *(row(number, unit=f"{number % 3 + 1}" * 16) for number in range(100)),
        row(100, version=NEW, status=503, input_tokens=None, output_tokens=None),
        row(101, version=NEW, status=499, output_tokens=2, counted="text"),
        row(102, purpose="eval"),
        row(3600, time="2026-11-25T09:30:00.000+00:00"),
        b"{torn",
    )

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["-C", str(tmp_path), "usage", *arguments])
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out, shown.err

    return call


def rows(run: Run, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = run(*arguments, "--format", "json")
    assert code == 0, err
    found: list[dict[str, Any]] = json.loads(out)
    return found


@pytest.mark.parametrize("command", ["show", "summary"])
def test_a_client_that_is_neither_declared_nor_logged_is_named_with_the_nearest(
    run: Run, command: str
) -> None:
    code, _, err = run(command, "--client", "acem")
    assert (code, "FC5122" in err, "Did you mean `acme`?" in err) == (1, True, True)
    assert rows(run, command, "--client", "acme")


def test_a_summary_holds_requests_errors_tokens_and_times(run: Run) -> None:
    old, new = rows(run, "summary")
    assert (old["version"], old["requests"], old["errors"], old["users"]) == (OLD, 101, 0, 3)
    assert (old["input_tokens"], old["output_tokens"]) == (303, 505)
    assert [old[f"latency_p{share}_s"] for share in (50, 95, 99)] == pytest.approx(
        [0.5, 0.96, 0.99], rel=0.02
    )
    assert (new["errors"], new["left_by_client"], new["recounted"]) == (1, 1, 1)
    assert (new["unknown_tokens"], new["first_token_p50_s"]) == (0, None)
    late = rows(run, "summary", "--since", "2026-11-25T09:45Z")
    assert [each["requests"] for each in late] == [1]
    assert [each["requests"] for each in rows(run, "summary", "--purpose", "eval")] == [1]
    assert rows(run, "summary", "--client", "acme", "--purpose", "shadow") == []
    code, out, _ = run("summary", "--alias", "acme-support")
    assert (code, out.split()[:4]) == (
        0,
        ["client", "alias", "version", "requests"],
    )


def test_evaluations_are_billed_where_the_client_pays_for_them(run: Run, tmp_path: Path) -> None:
    assert sum(each["requests"] for each in rows(run, "summary", "--billed")) == 103
    text = (tmp_path / "clients/acme.yaml").read_text("utf-8")
    paying = text.replace("acme:\n", "acme:\n    bill_evals: true\n", 1)
    write(tmp_path, {"clients/acme.yaml": paying, "evals.yaml": "evals: {through: gateway}\n"})
    assert sum(each["requests"] for each in rows(run, "summary", "--billed")) == 104


def test_the_last_requests_come_from_the_logs(run: Run) -> None:
    found = rows(run, "show", "--last", "2")
    assert [each["request_id"] for each in found] == [f"{number:032x}" for number in (101, 3600)]
    assert {"cached_tokens", "waited_s", "trace_id", "unit", "digest"} <= found[0].keys()
    assert "No such request" in run("show", "--client", "acme", "--purpose", "shadow")[1]


def test_ingestion_says_what_it_found_and_compaction_what_it_wrote(run: Run) -> None:
    _, out, err = run("ingest")
    assert (out, err.startswith("Warning: lines of log "), err.endswith("left out: 1\n")) == (
        "Ingested 104 rows.\n",
        True,
        True,
    )
    assert run("ingest")[1] == "Ingested 0 rows.\n"
    assert run("compact")[1].startswith("Wrote 104 rows to ")
    assert run("compact")[1] == "Nothing new has been logged.\n"
