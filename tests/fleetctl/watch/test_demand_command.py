"""`fleetctl demand`: hours shown, and recorded from the usage that a gateway wrote."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from fleetctl.cli import main
from runtime.gateway.traffic.accounting import UsageCounters, UsageWriter
from runtime.usage.log import UsageLog
from runtime.usage.row import Tokens, UsageRecorder
from tests.broken.project import ACME, valid, write

_DEMAND = '{peak_rpm: 30, hours: "09-18", timezone: Europe/Paris}'
Run = Callable[..., tuple[int, str, str]]
NAMES = {"acme-support": "acme-support-tiny-v2.1.0", "acme-triage": "acme-triage-tiny-v1.0.0"}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    write(tmp_path, valid())

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            main(["-C", str(tmp_path), "demand", *arguments])
        except SystemExit as ended:
            code = ended.code
        shown = capsys.readouterr()
        assert isinstance(code, int)
        return code, shown.out, shown.err

    return call


def rows(alias: str, day: int, hour: int, times: int, version: str | None = None) -> str:
    time = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=day, hours=hour)
    row = {
        "time": time.isoformat(timespec="milliseconds"),
        "request_id": "",
        "alias": alias,
        "version": NAMES.get(alias, "") if version is None else version,
        "status": 200,
        "input_tokens": 200,
        "output_tokens": 50,
    }
    return "".join(json.dumps(row | {"request_id": uuid4().hex}) + "\n" for _ in range(times))


def logged(root: Path, *parts: str, name: str = "gateways/main/usage.jsonl") -> None:
    write(root, {f".fleetctl/{name}": "".join(parts)})


def test_hours_are_drawn_for_each_adapter_and_summed_for_each_base(run: Run) -> None:
    code, out, _ = run("show")
    assert code == 0
    assert out.splitlines() == [
        "Requests a minute      peak  at     00    06    12    18      UTC",
        "base tiny                30  07:00  ·······██████████·······",
        "  acme-support           30  07:00  ·······██████████·······  declared",
        "  1 adapter without declared demand: taken as idle",
    ]


def test_scripts_get_the_numbers(run: Run) -> None:
    found = json.loads(run("show", "--format", "json")[1])
    assert found["adapters"]["acme-triage"]["source"] == "none"
    assert found["adapters"]["acme-triage"]["peak_hour"] is None
    assert found["adapters"]["acme-support"]["rpm"] == [0.0] * 7 + [30.0] * 10 + [0.0] * 7
    assert found["bases"]["tiny"]["peak_hour"] == 7
    assert (found["bases"]["tiny"]["adapters"], found["bases"]["tiny"]["without_demand"]) == (2, 1)


def test_demand_is_recorded_from_all_logs_and_then_used(run: Run, tmp_path: Path) -> None:
    logged(tmp_path, rows("acme-support", 0, 9, 60), rows("", 0, 9, 50), rows("acme-x", 0, 9, 9))
    logged(
        tmp_path,
        rows("acme-support", 1, 9, 120) + '{"time": "2026-03-0\n',
        name="gateways/spare/usage-20260303T100000000000.jsonl",
    )
    code, out, err = run("record")
    assert code == 0, err
    assert "demand of 1 adapter, from 2026-03-02 09:00 to 2026-03-03 10:00 UTC" in out
    assert err.endswith("\nLeft out 1 line that cannot be read.\n")
    document = json.loads((tmp_path / "demand.json").read_text("utf-8"))
    assert document["adapters"] == {
        "acme-support": {
            "rpm": [0.0] * 9 + [2.0] + [0.0] * 14,
            "prompt_tokens": 200,
            "output_tokens": 50,
            "faults": {
                "requests": 180,
                "errors": 0,
                "told_format": 0,
                "format": 0,
                "told_finish": 0,
                "truncated": 0,
            },
        }
    }
    write(tmp_path, {"clients/acme.yaml": ACME.replace(_DEMAND, "{observed: true}")})
    assert (
        "  acme-support            2  09:00  ·········█··············  observed" in run("show")[1]
    )


def test_it_is_recorded_where_the_declarations_wait_for_it(run: Run, tmp_path: Path) -> None:
    write(tmp_path, {"clients/acme.yaml": ACME.replace(_DEMAND, "{observed: true}")})
    code, _, err = run("show")
    assert code == 1
    assert f"fleetctl -C {tmp_path} demand record" in err
    logged(tmp_path, rows("acme-support", 0, 9, 6))
    code, _, err = run("record")
    assert code == 0
    assert err.startswith("The logs span 1 hour; ")
    assert run("show")[0] == 0


def test_a_damaged_recording_is_written_anew_and_who_is_silent_becomes_idle(
    run: Run, tmp_path: Path
) -> None:
    write(tmp_path, {"demand.json": "{"})
    logged(tmp_path, rows("acme-support", 0, 9, 60))
    assert run("record")[0] == 0
    logged(tmp_path, rows("acme-triage", 20, 9, 60))
    assert run("record")[0] == 0
    adapters = json.loads((tmp_path / "demand.json").read_text("utf-8"))["adapters"]
    assert [(alias, max(each["rpm"])) for alias, each in adapters.items()] == [
        ("acme-support", 0.0),
        ("acme-triage", 1.0),
    ]


def test_another_folder_may_be_named_and_an_empty_one_is_told(run: Run, tmp_path: Path) -> None:
    code, _, err = run("record")
    assert code == 1
    assert "FC6043" in err
    logged(tmp_path, rows("acme-triage", 0, 9, 60), name="elsewhere/usage.jsonl")
    assert run("record", "--from", str(tmp_path / ".fleetctl/elsewhere"))[0] == 0
    assert run("record", "--from", str(tmp_path / "nowhere"))[0] == 64


def test_what_a_gateway_writes_is_what_is_read(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / ".fleetctl/gateways/main"
    folder.mkdir(parents=True)
    with UsageLog(folder / "usage.jsonl") as log:
        for user in ("ana", "ben", "ana"):
            record = UsageRecorder(UsageWriter(log, UsageCounters()).add, "/v1/completions", 1)
            record.row.unit = sha256(user.encode()).hexdigest()[:16]
            record.row.alias, record.row.version = "acme-triage", NAMES["acme-triage"]
            record.tokens = Tokens(7, 3)
            record.write(200)
    assert run("record")[0] == 0
    found = json.loads((tmp_path / "demand.json").read_text("utf-8"))["adapters"]["acme-triage"]
    assert (sum(found["rpm"]), found["prompt_tokens"], found["output_tokens"]) == (0.05, 7, 3)
    assert found["users"] == 2
