"""A steady client that can tell adapter versions apart, and counts what it gets.

Before anything breaks, each version answers each question alone, greedily. Later an answer counts
as wrong unless it is, letter by letter, that of a version that the alias may answer with.
"""

import http.client
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

from fleet.names import alias_of

PAUSE_S = 0.1
"""Time between two requests to an alias. Seconds."""
LIMIT_S = 20.0
"""Upper bound of the wait for an answer; after it, the request has failed."""
TOKENS = 24


def ask(url: str, model: str, question: str, key: str = "") -> tuple[int, str, str]:
    """Ask once; return status (0: no answer), text, and the version that is said to answer."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": TOKENS,
    }
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=LIMIT_S)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        if reply.status != http.client.OK:
            return reply.status, str(answer)[:200], ""
        text = answer["choices"][0]["message"]["content"]
        return reply.status, text, reply.getheader("x-fleetctl-version", "")
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return 0, type(error).__name__, ""
    finally:
        connection.close()


@dataclass
class Kill:
    """The end of a process by a signal; an alias can lose one request, as it asks alone."""

    began: float = field(default_factory=time.monotonic)
    ended: float = math.inf
    lost: set[str] = field(default_factory=set)
    """Aliases that lost a request."""


@dataclass
class SteadyClient:
    """Asks every alias all the time, from a thread of its own each."""

    url: str
    keys: Mapping[str, str]
    """Key by alias."""
    questions: Mapping[str, tuple[str, ...]]
    """By alias."""
    answers: Mapping[str, Mapping[str, str]]
    """By version and question."""
    allowed: dict[str, set[str]]
    """Versions by alias that may answer."""
    at_first: dict[str, set[str]] = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    """Requests `sent`, `failed`, `wrong`, `killed` (in flight on a server when it was killed) and
    `announced` (of an alias that the plan names as without a server); none counts twice."""
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    paused: set[str] = field(default_factory=set)
    """Aliases that get no request for now."""
    announced: set[str] = field(default_factory=set)
    """Aliases of which the plan says that requests fail for now."""
    kills: list["Kill"] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)
    _stop: Event = field(default_factory=Event)
    _asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.at_first = {alias: set(names) for alias, names in self.allowed.items()}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask while the block runs."""
        threads = [Thread(target=self._work, args=(alias,)) for alias in self.questions]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    @contextmanager
    def killing(self) -> Iterator[None]:
        """Count what is lost on a server that is killed while the block runs."""
        kill = Kill()
        self.kills.append(kill)
        yield
        kill.ended = time.monotonic()

    def _failure(self, alias: str, status: int, began: float) -> str:
        """Return the kind of a failure: a broken connection is that of a kill it fell into."""
        if alias in self.announced:
            return "announced"
        for kill in self.kills if status == http.client.BAD_GATEWAY else ():
            if began <= kill.ended and time.monotonic() >= kill.began and alias not in kill.lost:
                kill.lost.add(alias)
                return "killed"
        return "failed"

    def _work(self, alias: str) -> None:
        while not self._stop.wait(PAUSE_S):
            if alias not in self.paused:
                self.probe(alias)

    def probe(self, alias: str) -> bool:
        """Ask an alias its next question; return whether the answer is right."""
        with self._lock:
            self._asked[alias] += 1
            number = self._asked[alias]
        question = self.questions[alias][number % len(self.questions[alias])]
        before = set(self.allowed[alias])
        began = time.monotonic()
        status, text, version = ask(self.url, alias, question, self.keys[alias])
        right = {
            self.answers[name][question]
            for name in before | self.allowed[alias]
            if not version or version == name
        }
        outcome = "" if text in right else "wrong"
        with self._lock:
            if status != http.client.OK:
                outcome = self._failure(alias, status, began)
            self.counts["sent"] += 1
            if outcome:
                self.counts[outcome] += 1
                self.examples[outcome].append(f"{alias} {version} {status}: {text[:100]!r}")
        return not outcome

    def probe_all(self, times: int) -> bool:
        """Ask every alias some questions; return whether all answers are right."""
        return all(self.probe(alias) for _ in range(times) for alias in self.questions)

    def reset(self) -> None:
        """Allow the versions alone that were served at first."""
        for alias, names in self.at_first.items():
            self.allowed[alias] = set(names)

    def taken(self) -> Counter[str]:
        """Return the counts so far and begin anew."""
        with self._lock:
            counts, self.counts = self.counts, Counter()
            return counts


def telling(
    candidates: Mapping[str, tuple[str, ...]], answers: Mapping[str, Mapping[str, str]]
) -> dict[str, tuple[str, ...]]:
    """Return the questions by alias which each version of an alias answers as no other does.

    `candidates`: questions by alias. `answers`: by version, or name of a base, and question.
    """
    found = {}
    for alias, questions in candidates.items():
        own = [name for name in answers if "-v" in name and alias_of(name) == alias]
        found[alias] = tuple(
            question
            for question in questions
            if all(
                answers[name][question] != other[question]
                for name in own
                for rival, other in answers.items()
                if rival != name
            )
        )
    return found
