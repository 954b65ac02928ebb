"""Requests on one server for a few minutes of the day: who is answered late?

A discrete simulation. What it assumes:
- Requests of an adapter arrive independently of each other (Poisson), at its rate of that hour.
- All requests of the batch get a token per step, and a step lasts as long as the throughput law
  says for the batch and the adapters active in it. A prompt is computed in `PROMPT_STEPS` steps, in
  which it weighs as much as all its decode-equivalent tokens; then the request weighs 1.
- The batch holds as many requests as the KV cache does at their mean context, and 256 at most.
- Different adapters in the batch are never more than the server has LoRA slots. A request whose
  adapter has none waits until an adapter has no request left in the batch, as in vLLM.
- First come, first served among those that may run. Loading an adapter into a slot takes no time.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from random import Random

from fleet.capacity.decode_law import step_seconds
from fleet.capacity.demand import HOURS
from fleet.hardware import Speed

PROMPT_STEPS = 2
WARM_UP_S, MEASURED_S = 120.0, 600.0
"""Seconds of an hour that are simulated: first unmeasured ones, until the batch has filled."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The requests of one adapter that one server gets."""

    alias: str
    rates: tuple[float, ...]
    """Requests per second by hour of the day."""
    prompt: float
    """Of a request: what its prompt costs, in decoded tokens."""
    output: float
    """Tokens of an answer."""
    deadline_s: float
    """An answer that takes longer is late."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One server."""

    name: str
    speed: Speed
    slots: int
    batch: int
    """Most requests at a time."""
    callers: tuple[Caller, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, in the order of arrival."""

    at: float
    caller: Caller
    number: int


@dataclass(slots=True)
class Answers:
    """Requests of a day and those answered late, by alias."""

    requests: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Answers", times: int) -> None:
        """Count others' requests so many times."""
        for mine, theirs in ((self.requests, other.requests), (self.late, other.late)):
            mine.update({alias: times * count for alias, count in theirs.items()})

    @property
    def part(self) -> float:
        """Part of all requests that is late."""
        return self.late.total() / self.requests.total() if self.requests else 0.0

    @property
    def broken(self) -> int:
        """Adapters of whose requests more than one in twenty is late: p95 is what is promised."""
        return sum(20 * self.late[alias] > count for alias, count in self.requests.items())


def day(machines: Iterable[Machine]) -> Answers:
    """Return the answers of all servers in a day's measured minutes.

    Hours that ask the same are simulated once.
    """
    total = Answers()
    for machine in machines:
        every = ([each.rates[hour] for each in machine.callers] for hour in range(HOURS))
        alike = Counter(tuple(each) for each in every)
        for rates, hours in sorted(alike.items()):
            total.add(simulated(machine, rates), hours)
    return total


def simulated(machine: Machine, rates: Sequence[float]) -> Answers:
    """Return the answers of one server to requests at these rates, one per caller."""
    end = WARM_UP_S + MEASURED_S
    pairs = zip(machine.callers, rates, strict=True)
    arrivals = (each for caller, rate in pairs for each in _arrivals(caller, rate, end))
    requests = sorted(arrivals, key=lambda each: (each.at, each.caller.alias))
    batch = _Batch(machine)
    found = Answers()
    for request, finished in batch.run(requests):
        if request.at >= WARM_UP_S:
            caller = request.caller
            found.requests[caller.alias] += 1
            found.late[caller.alias] += finished - request.at > caller.deadline_s
    return found


def _arrivals(caller: Caller, rate: float, end: float) -> Iterator[Request]:
    """Yield the requests of a caller: the same for the same rate, whatever the server."""
    chance = Random(f"{caller.alias} {rate:.9f}")  # noqa: S311 (traffic, not secrets)
    at, number = 0.0, 0
    while rate > 0:
        at += chance.expovariate(rate)
        if at >= end:
            return
        yield Request(at, caller, number)
        number += 1


class _Batch:
    """What a server computes and what waits for it; `done` counts steps since the start."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.running: list[tuple[float, float, str, int, Request, bool]] = []
        """A heap: the step at which a prompt is read or an answer given, arrival, alias, number,
        the request, whether its prompt is being read."""
        self.weight = 0.0
        """Of all that runs, in requests that decode."""
        self.active: Counter[str] = Counter()
        self.waiting: dict[str, deque[Request]] = defaultdict(deque)
        self.now, self.done = 0.0, 0.0

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[Request, float]]:
        """Yield each request with the time at which it is answered."""
        position = 0
        while position < len(requests) or self.running:
            arrival = requests[position].at if position < len(requests) else inf
            step = step_seconds(self.machine.speed, self.weight, len(self.active))
            event = self.now + (self.running[0][0] - self.done) * step if self.running else inf
            self.done += (min(arrival, event) - self.now) / step if self.running else 0.0
            self.now = min(arrival, event)
            if event <= arrival:
                request = self._next()
                if request is not None:
                    yield request, self.now
            else:
                request = requests[position]
                self.waiting[request.caller.alias].append(request)
                position += 1
            self._admit()

    def _next(self) -> Request | None:
        """Take what is next: a prompt that is read, and goes on, or an answer; return that."""
        self.done, at, alias, number, request, reading = heappop(self.running)
        if reading:
            self.weight += 1 - _prompt_weight(request)
            end = self.done + request.caller.output
            heappush(self.running, (end, at, alias, number, request, False))
            return None
        self.weight -= 1
        self.active[alias] -= 1
        if not self.active[alias]:
            del self.active[alias]
        if not self.running:
            self.weight = 0.0
        return request

    def _admit(self) -> None:
        """Let requests into the batch, the earliest first of those whose adapter has a slot."""
        while self.waiting and len(self.running) < self.machine.batch:
            full = len(self.active) >= self.machine.slots
            heads = [
                (queue[0].at, alias)
                for alias, queue in self.waiting.items()
                if not full or alias in self.active
            ]
            if not heads:
                return
            _, alias = min(heads)
            request = self.waiting[alias].popleft()
            if not self.waiting[alias]:
                del self.waiting[alias]
            self.active[alias] += 1
            self.weight += _prompt_weight(request)
            read = self.done + PROMPT_STEPS
            heappush(self.running, (read, request.at, alias, request.number, request, True))


def _prompt_weight(request: Request) -> float:
    return max(request.caller.prompt / PROMPT_STEPS, 1.0)
