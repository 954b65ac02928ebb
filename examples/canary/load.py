"""Clients at work: asks aliases through the gateway, each request as another user or session.

    python load.py --url URL --keys FOLDER --golden FOLDER --out FILE [--rate 20]

On SIGTERM or SIGINT it finishes what is under way and writes what it saw to FILE, as JSON:
by alias and version how many requests were answered, answered rightly, cut off, and failed.
Three people of acme ask again and again, in an application that takes short answers only.
"""

import argparse
import asyncio
import json
import signal
from collections import Counter, defaultdict
from itertools import count
from pathlib import Path

import aiohttp

ALIASES = {  # alias: golden set, part of the requests
    "acme-support": ("support.jsonl", 0.7),
    "corvid-dates": ("dates.jsonl", 0.15),
    "fjord-reviews": ("reviews.jsonl", 0.15),
}
SHORT_OF = "acme-support"
SHORT = ("ana", "ben", "cleo")
"""Users whose application takes 12 tokens: right answers have 7, one inside small talk has more."""
EVERY = 8
"""A request of so many is of one of these users."""


class Load:
    """Requests at a steady rate, whatever the answers do."""

    def __init__(self, url: str, keys: Path, golden: Path) -> None:
        self.url = url
        self.keys = {
            alias: (keys / f"{alias.partition('-')[0]}-prod").read_text(encoding="utf-8").strip()
            for alias in ALIASES
        }
        self.questions = {alias: questions(golden / file) for alias, (file, _) in ALIASES.items()}
        self.seen: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self.failures: list[str] = []

    async def ask(self, http: aiohttp.ClientSession, alias: str, number: int) -> None:
        """Ask one question as a user of its own, and note the answer."""
        question = self.questions[alias][number % len(self.questions[alias])]
        body = {
            "model": alias,
            "messages": [{"role": "user", "content": question["input"]}],
            "temperature": 0,
            "max_tokens": 40,
            "user": f"user-{number}",
        }
        headers = {"Authorization": f"Bearer {self.keys[alias]}"}
        if is_short := alias == SHORT_OF and number % EVERY == 0:
            body |= {"max_tokens": 12, "user": SHORT[number // EVERY % len(SHORT)]}
            headers["X-Session-Id"] = f"session-{number}"
        version = "none"
        try:
            async with http.post(self.url, json=body, headers=headers) as reply:
                version = reply.headers.get("x-fleetctl-version", "none")
                answer = await reply.json()
            choice = answer["choices"][0] if reply.status == 200 else {"finish_reason": ""}
            text = choice["message"]["content"] if reply.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            self.failures.append(f"{alias}: {error!r}")
            self.seen[alias][version]["failed"] += 1
            return
        if reply.status != 200:
            self.failures.append(f"{alias}: {reply.status}: {str(answer)[:200]}")
        outcome = (
            "failed"
            if reply.status != 200
            else "right"
            if text == question["expected"]
            else f"cut off for {'named users' if is_short else 'others'}"
            if choice["finish_reason"] == "length"
            else "wrong"
        )
        self.seen[alias][version][outcome] += 1

    async def run(self, rate: float, stop: asyncio.Event) -> None:
        """Ask `rate` questions a second until `stop`, then wait for the answers."""
        numbers, chosen = count(), pattern()
        limit = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(timeout=limit) as http,
            asyncio.TaskGroup() as group,
        ):
            while not stop.is_set():
                number = next(numbers)
                group.create_task(self.ask(http, chosen[number % len(chosen)], number))
                await asyncio.sleep(1 / rate)


def questions(path: Path) -> list[dict[str, str]]:
    """Return the questions of a golden set, with the right answers."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pattern() -> list[str]:
    """Return 20 aliases, each as often as its part."""
    return [alias for alias, (_, part) in ALIASES.items() for _ in range(round(part * 20))]


async def main(arguments: argparse.Namespace) -> None:
    """Ask until told to stop, then write the counts."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    load = Load(f"{arguments.url}/v1/chat/completions", arguments.keys, arguments.golden)
    await load.run(arguments.rate, stop)
    found = {"seen": load.seen, "failures": load.failures[:20], "failed": len(load.failures)}
    arguments.out.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=20.0)
    asyncio.run(main(parser.parse_args()))
