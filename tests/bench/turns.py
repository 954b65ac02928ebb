"""The cost of a completion while requests of many aliases wait for a server.

    .venv/bin/python -m tests.bench.turns

A completion gives a place back, the next waiting request takes its turn, and another request of its
alias comes. Printed is the CPU time of all three in the gateway, without sockets, with 1 and with
1,000 waiting aliases of 100 clients, on one server and spread over pairs of 40 servers; and the
steps of the interpreter, which are the same whatever runs beside.
"""

import itertools
import sys
import time
from collections import deque
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final

from fleet.traffic import TrafficPolicy
from runtime.gateway.process import tune
from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.admission import Admission
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.waiting import Ticket

_CLIENTS: Final = 100
_COMPLETIONS: Final = 5_000
_TRACED: Final = 1_000
_POLICY: Final = TrafficPolicy(server_in_flight=16)


class Queue:
    """Requests that do nothing but begin and end, with no place left on any server."""

    def __init__(self, aliases: int, places: Sequence[tuple[str, ...]]) -> None:
        self.in_flight = InFlight()
        balancer = LoadBalancer(self.in_flight, ConcurrencyLimiter(self.in_flight.servers))
        self.balancer, self.admission = balancer, Admission(self.in_flight, balancer)
        self.working: deque[tuple[Ticket, str]] = deque()
        targets = [
            RouteTarget(f"c{n % _CLIENTS}", f"c{n % _CLIENTS}-{n}", f"c{n % _CLIENTS}-{n}-v1",
                        places[n % len(places)], _POLICY)
            for n in range(aliases)
        ]  # fmt: skip
        for target in itertools.islice(itertools.cycle(targets), 4 * aliases + 1000):
            self.ask(target)

    def ask(self, target: RouteTarget) -> None:
        ticket = Ticket(target)
        ticket.proceed = lambda: self.begin(ticket)
        if self.admission.request(ticket, 0.0):
            self.begin(ticket)

    def begin(self, ticket: Ticket) -> None:
        self.working.append((ticket, self.balancer.acquire(ticket.target, (), 0.0)))

    def complete(self) -> None:
        ticket, server = self.working.popleft()
        self.in_flight.remove(server, ticket.target.adapter)
        self.admission.release(ticket)
        self.ask(ticket.target)


def measure(aliases: int, places: Sequence[tuple[str, ...]]) -> float:
    """Return the CPU time of a completion, in microseconds."""
    queue = Queue(aliases, places)
    tune()
    began = time.process_time()
    for _ in range(_COMPLETIONS):
        queue.complete()
    return (time.process_time() - began) / _COMPLETIONS * 1e6


def steps(aliases: int, places: Sequence[tuple[str, ...]]) -> float:
    """Return the instructions of the interpreter that a completion takes."""
    queue, count = Queue(aliases, places), 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    for _ in range(_TRACED):
        queue.complete()
    sys.settrace(None)
    return count / _TRACED


def main() -> None:
    """Print the figures."""
    pairs = [*itertools.combinations([f"s{number}" for number in range(40)], 2)]
    for name, places in (("on one server", [("s1",)]), ("on pairs of 40 servers", pairs)):
        one, many = (min(measure(aliases, places) for _ in range(3)) for aliases in (1, 1000))
        print(f"{name}: 1 waiting alias {one:.1f} us, 1,000 {many:.1f} us ({many / one:.2f}x)")
        one, many = (steps(aliases, places) for aliases in (1, 1000))
        print(f"  steps of the interpreter: {one:,.0f} and {many:,.0f} ({many / one:.2f}x)")


if __name__ == "__main__":
    main()
