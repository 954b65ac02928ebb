"""Golden items of one document, customer or session are judged together."""

import asyncio
import json
from pathlib import Path

from fleet.gates import Verdict, recheck_verdict
from tests.runtime.gates.test_evidence import judged
from tests.runtime.gateway.stage import NEW, OLD, replica


def test_items_of_one_ticket_are_judged_together(tmp_path: Path) -> None:
    items = [
        {"id": f"q{n}", "input": f"ask {n}", "expected": ".*", "group": f"ticket {n // 4}"}
        for n in range(40)
    ]
    lines = [{"defaults": {"metric": "regex"}}, *items]
    (tmp_path / "g.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")

    async def scenario() -> None:
        async with replica(OLD, NEW) as ours:
            (one,) = (await judged(tmp_path, ours.url)).judged
            assert (one.finding.counts["items"], one.finding.counts["clusters"]) == (40, 10)
            assert one.finding.verdict is Verdict.INCONCLUSIVE
            assert "fewer than 20 independent items" in one.finding.reason
            assert recheck_verdict(one.finding.plain()) == one.finding

    asyncio.run(scenario())
