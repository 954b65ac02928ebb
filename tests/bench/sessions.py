"""How much of the prompts two real vLLMs find in their caches, with and without sessions.

    .venv/bin/python -m tests.bench.sessions [--sessions 24] [--turns 8] [--kv 2]

Each session asks turn after turn, with all that was said so far; four sessions ask at a time. They
are played without a name, so that the least busy server answers, and with `X-Session-Id`, so that
a session keeps to a server. A KV cache of 2 MiB has 4,096 tokens, about half of what all sessions
have said at the end. The texts of the two ways have no beginning in common.
"""

import argparse
import asyncio
import os
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from tests.bench.fairness import VLLM
from tests.runtime.gateway.live import running
from tests.runtime.gateway.stage import ACME, CHAT, MAIN, NEW, alias, table

AT_ONCE = 4
BLOCKS = (("block-size", "32"),)
"""Tokens that are cached together; the prompts here are a few hundred tokens long."""
_COUNTS = re.compile(r"^vllm:prefix_cache_(hits|queries)_total\{.*\} (\S+)$", re.MULTILINE)


@dataclass
class Players:
    """Sessions that ask one gateway in front of all servers."""

    http: aiohttp.ClientSession
    url: str
    servers: tuple[str, ...]
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def session(self, name: str, turns: int, *, is_named: bool) -> None:
        """Ask turn after turn."""
        said: list[dict[str, Any]] = []
        head = {"Authorization": f"Bearer {ACME}"} | ({"X-Session-Id": name} if is_named else {})
        for turn in range(turns):
            text = f"{name}, turn {turn}: my parcel to Lyon has not arrived."
            said.append({"role": "user", "content": text})
            body = {"model": "acme-support", "messages": said, "max_tokens": 8}
            async with self.free, self.http.post(self.url + CHAT, json=body, headers=head) as reply:
                answer = await reply.json()
            assert reply.status == 200, answer
            content = answer["choices"][0]["message"]["content"] or "-"
            said.append({"role": "assistant", "content": content})

    async def counted(self) -> Counter[str]:
        """Return the tokens of prompts that were looked for and found, of all servers."""
        total: Counter[str] = Counter()
        for server in self.servers:
            async with self.http.get(f"{server}/metrics") as reply:
                for kind, number in _COUNTS.findall(await reply.text()):
                    total[kind] += int(float(number))
        return total


async def play(players: Players, sessions: int, turns: int, *, is_named: bool) -> str:
    """Play all sessions one way; return what the servers found in their caches."""
    way = "named" if is_named else "nameless"
    before = await players.counted()
    names = (f"{way[0]}{number:03} {way}" for number in range(sessions))
    await asyncio.gather(*(players.session(n, turns, is_named=is_named) for n in names))
    found = await players.counted()
    hits, asked = (found[kind] - before[kind] for kind in ("hits", "queries"))
    return f"{way:9} {hits / asked:6.1%} of {asked:,} prompt tokens from the cache"


async def measure(urls: dict[str, str], state: Path, given: argparse.Namespace) -> None:
    """Play both ways, by turns."""
    async with serving(state, MAIN) as url, aiohttp.ClientSession() as http:
        gateways = LocalGateways(state, {"main": MAIN})
        entry = alias("acme", (NEW, 100, tuple(sorted(urls))))
        served = table(urls).model_copy(update={"aliases": {"acme-support": entry}})
        await gateways.publish(served)
        players = Players(http, url, tuple(urls.values()))
        for is_named in (False, True):
            print(await play(players, given.sessions, given.turns, is_named=is_named), flush=True)
        await gateways.close()


def main() -> None:
    """Run two servers and a gateway, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=24)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--kv", type=int, default=2, help="KV cache of a server, MiB")
    given = parser.parse_args()
    python = Path(os.environ.get("FLEETCTL_VLLM_PYTHON") or VLLM)
    with tempfile.TemporaryDirectory() as name:
        folder, size = Path(name), given.kv << 20
        with (
            running(python, folder / "one", kv_cache_bytes=size, extra=BLOCKS) as one,
            running(python, folder / "two", kv_cache_bytes=size, extra=BLOCKS) as two,
        ):
            urls = {"s1": one.url, "s2": two.url}
            asyncio.run(measure(urls, folder / "gateway" / ".fleetctl", given))


if __name__ == "__main__":
    main()
