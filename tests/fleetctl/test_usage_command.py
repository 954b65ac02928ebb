"""`fleetctl usage`, on what a gateway logged."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from fleetctl.cli import main_group

ROW = {
    "time": "2026-11-25T08:00:00.000+00:00",
    "request_id": "1",
    "client": "acme",
    "alias": "acme-support",
    "version": "acme-support-tiny-v2.1.0",
    "status": 200,
    "latency_s": 0.25,
    "first_byte_s": 0.125,
    "input_tokens": 3,
    "output_tokens": 5,
    "purpose": "live",
    "unit": "0123456789abcdef",
}


def usage(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main_group, ["-C", str(root), "usage", *arguments])


def test_usage_is_summed_up_listed_and_compacted(tmp_path: Path) -> None:
    empty = usage(tmp_path, "summary")
    assert (empty.exit_code, empty.output) == (0, "No such request has been logged.\n")
    assert usage(tmp_path, "compact").output == "Nothing new has been logged.\n"
    log = tmp_path / ".fleetctl/gateways/main/usage.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(f"{json.dumps(ROW)}\n", encoding="utf-8")
    before = usage(tmp_path, "summary", "--format", "json")
    assert json.loads(before.output) == [
        {
            "client": "acme",
            "alias": "acme-support",
            "version": "acme-support-tiny-v2.1.0",
            "requests": 1,
            "errors": 0,
            "left_by_client": 0,
            "recounted": 0,
            "users": 1,
            "input_tokens": 3,
            "output_tokens": 5,
            **{f"latency_p{part}_s": 0.25 for part in (50, 95, 99)},
            **{f"first_byte_p{part}_s": 0.125 for part in (50, 95, 99)},
        }
    ]
    assert usage(tmp_path, "compact").output.startswith("Wrote 1 row to `")
    assert usage(tmp_path, "summary", "--format", "json").output == before.output
    titles, line = usage(tmp_path, "show", "--last", "5").output.splitlines()
    assert titles.split() == [
        "time", "client", "alias", "version", "status", "latency", "s", "input", "tokens",
        "output", "tokens",
    ]  # fmt: skip
    assert line.split()[1:5] == ["acme", "acme-support", "acme-support-tiny-v2.1.0", "200"]
    (shown,) = json.loads(usage(tmp_path, "show", "--format", "json").output)
    assert (shown["request_id"], shown["unit"]) == ("1", ROW["unit"])


def test_a_time_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    wrong = usage(tmp_path, "summary", "--since", "yesterday")
    assert wrong.exit_code == 2  # click's own; `main` makes it 64
    assert "write it as 2026-11-25T08:00Z" in wrong.output
