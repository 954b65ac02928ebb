"""What `make bench-gateway` prints: CPU per request of our gateway beside its peers'.

    .venv/bin/python -m tests.bench.gateway [--rounds 12] [--seconds 0.5] [--candidates NAME ...]
    .venv/bin/python -m tests.bench.gateway --only trials    # or: --only cpu

All candidates are alive at once and take turns within a round, because machines are noisy: the
ratios are fair, absolute times are upper bounds. The gateway under test has one core, the clients
and the server behind it another one (nginx where it is installed, see `gateway_upstream`; a line
says which). CPU per request is the best of the rounds.

Ours does the whole job: 100 keys, 1,000 aliases with two versions each, sticky split, rewritten
bodies, token counts, a usage row per request; so does Envoy with native filters, as fleetctl
compiles it. LiteLLM knows one key and one alias here. vllm-router and the plain Envoy do none of
that: they pass bytes on. A peer that does not install from the package index is reported and left
out.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

from tests.bench.gateway_candidates import (
    ALIASES,
    AROUND,
    CANDIDATES,
    CLIENTS,
    KEYS,
    START_S,
    Candidate,
    cpu_seconds,
)
from tests.bench.gateway_envoy import envoy_native
from tests.bench.gateway_load import Load
from tests.bench.gateway_report import lines
from tests.bench.gateway_upstream import Upstream

USERS = 64
ADDED_US = 300
PER_SECOND = 10_000
"""What one core is to do."""
STREAM_S = 2.0
"""Shortest window in which streams end."""
_KNOWN: dict[str, Callable[..., Any]] = CANDIDATES | {"envoy-native": envoy_native}
Row = dict[str, float]


def body(kilobytes: float, number: int, word: str = "lorem ip ", **more: Any) -> dict[str, Any]:
    text = word * max(1, int(kilobytes * 1000 / len(word.encode())) - 20)
    return {
        "model": "c0-a0",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 128,
        "temperature": 0.2,
        "user": f"user-{number}",
    } | more


@dataclass(frozen=True)
class Scenario:
    title: str
    connections: int
    kilobytes: float
    stream: bool = False
    lifelike: bool = False
    """Whether heads are those of a client library, another with each request, and texts are not
    ASCII."""
    many: bool = False
    """Whether all aliases are asked for in turn, each with its client's key."""
    rate: int = 0
    """Requests a second; 0: a connection sends the next once the last is answered."""
    delay_ms: int = 0
    """Time that whole answers take."""

    def bodies(self) -> list[dict[str, Any]]:
        more: dict[str, Any] = {"stream": True} if self.stream else {}
        word = "größe 尺寸 " if self.lifelike else "lorem ip "
        found = []
        for number in range(CLIENTS * ALIASES if self.many else USERS):
            if self.many:
                more["model"] = f"c{number % CLIENTS}-a{number // CLIENTS}"
            found.append(body(self.kilobytes, number, word, **more))
        return found


SCENARIOS = (
    Scenario("1 KB, 64 connections", 64, 1),
    Scenario(
        "1 KB, 64 connections, heads of a client library that vary, non-ASCII", 64, 1, lifelike=True
    ),
    Scenario("1 KB, 100 connections, 1,000 aliases and 100 keys", 100, 1, many=True),
    Scenario("32 KB, 16 connections", 16, 32),
    Scenario("1 KB, one connection", 1, 1),
    Scenario("1 KB, 300 requests a second, answers take 50 ms", 64, 1, rate=300, delay_ms=50),
    Scenario("one stream, an event every 10 ms", 1, 1, stream=True),
    Scenario("32 streams, an event every 10 ms", 32, 1, stream=True),
)


def measured(candidate: Candidate, scenario: Scenario, load: Load, seconds: float) -> Row:
    seconds = max(seconds, STREAM_S if scenario.stream or scenario.rate else 0, candidate.seconds)
    bodies = [candidate.adapt(each) for each in scenario.bodies()]
    before = cpu_seconds(candidate.pid)
    keys = KEYS if scenario.many and candidate.has_keys else KEYS[:1]
    order = candidate.port, bodies, keys, scenario.connections, seconds
    found = load.run(*order, rate=scenario.rate, lifelike=scenario.lifelike)
    used = (cpu_seconds(candidate.pid) - before) * 1e6
    done = found["parts"] if scenario.stream else found["completed"]
    return {
        "cpu": used / max(done, 1),
        "rate": done / found["seconds"],
        "failed": found["failed"],
    } | {name: found[name] for name in ("p50", "p99", "first", "gap")}


def answers(candidate: Candidate, scenario: Scenario, load: Load) -> None:
    """Wait until a candidate has found out that another server answers on the port.

    Raises:
        OSError: it does not within a minute.
    """
    deadline = time.monotonic() + START_S
    while not measured(candidate, scenario, load, STREAM_S)["rate"]:
        if time.monotonic() > deadline:
            raise OSError(f"{candidate.name} does not find its server again")


def table(scenario: Scenario, rows: dict[str, list[Row]]) -> str:
    unit = "event" if scenario.stream else "request"
    names = (
        {"first": "first event", "gap": "gap"} if scenario.stream else {"p50": "p50", "p99": "p99"}
    )
    heads = "".join(f"{f'{name} µs':>17}{'added':>8}" for name in names.values())
    made = [
        f"\n{scenario.title}",
        f"{'':24}CPU µs/{unit:8} ratio   best {unit}s/s{heads}  failed",
    ]
    best = {name: min(each["cpu"] for each in found) for name, found in rows.items()}
    least = {name: _least(found) for name, found in rows.items()}
    for name, found in rows.items():
        fastest = max(each["rate"] for each in found)
        failed = int(sum(each["failed"] for each in found))
        ratio = "" if name == "direct" else f"{best['ours'] / best[name]:.2f}"
        cpu = "" if name == "direct" else f"{best[name]:.1f}"
        times = "".join(
            f"{least[name][time]:>17,.0f}{least[name][time] - least['direct'][time]:>8,.0f}"
            for time in names
        )
        made.append(f"{name:24}{cpu:>10}{ratio:>11}{fastest:>14,.0f}{times}{failed:>8}")
    if scenario.connections == 1 and not scenario.stream:
        added = least["ours"]["p50"] - least["direct"]["p50"]
        verdict = "met" if added <= ADDED_US else "MISSED"
        made.append(f"ours adds {added:,.0f} µs to the median ({verdict}: at most {ADDED_US})")
    if scenario is SCENARIOS[0]:
        window = max(rows["ours"], key=lambda each: each["rate"])
        rate, core = window["rate"], window["cpu"] * window["rate"] / 1e6
        verdict = "met" if rate >= PER_SECOND else "MISSED"
        made.append(
            f"ours answers {rate:,.0f} a second ({verdict}: at least {PER_SECOND:,}) and had "
            f"{core:.0%} of its core for it, which makes {rate / core:,.0f} of a whole one"
        )
    return "\n".join(made)


def _least(found: Sequence[Row]) -> Row:
    """Return the best times of all rounds: others beside take from each round."""
    return {
        time: min((each[time] for each in found if not isnan(each[time])), default=nan)
        for time in ("p50", "p99", "first", "gap")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--candidates", nargs="*", choices=_KNOWN, default=list(_KNOWN))
    parser.add_argument("--only", choices=("cpu", "trials"))
    given = parser.parse_args()
    if given.only != "trials":
        measure(given.candidates, given.rounds, given.seconds)
    if given.only != "cpu":
        print()
        for each in lines():
            print(each, flush=True)


def measure(names: Sequence[str], rounds: int, seconds: float) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        behind = stack.enter_context(Upstream.running(folder))
        behind.play(streams=False)
        load = stack.enter_context(Load.running(AROUND))
        candidates = [Candidate("direct", behind.port, os.getpid(), lambda each: each)]
        for name in names:
            try:
                candidates.append(stack.enter_context(_KNOWN[name](folder, behind.port)))
            except OSError as error:
                print(f"{name}: left out, {error}")
        print(f"whole answers come from {behind.playing}, streams from Python")
        for scenario in SCENARIOS:
            if behind.play(streams=scenario.stream, delay_ms=scenario.delay_ms):
                for each in candidates:
                    answers(each, scenario, load)
            rows: dict[str, list[Row]] = {each.name: [] for each in candidates}
            for number in range(rounds):
                for each in candidates:
                    if not (each.seconds and number % 4):
                        rows[each.name].append(measured(each, scenario, load, seconds))
            print(table(scenario, rows), flush=True)
    print("\nratio: CPU of ours / CPU of the candidate; below 1 ours is cheaper.")


if __name__ == "__main__":
    main()
