"""How long a real-time client waits while a batch client floods the same real vLLM.

    .venv/bin/python -m tests.bench.fairness [--flood 600] [--tokens 120] [--kv MiB]
        [--slots 4] [--rounds 2]

The batch client keeps so many requests open, on a connection each, and asks again once one is
answered or refused. After some seconds the real-time client asks for 8 tokens, one request after
the other. Each round is played twice: as fleetctl does it where nothing is declared, and with a
`max_in_flight` so large that the server's own queue decides. Prints the times of the real-time
client's requests, and how many tokens the server made meanwhile.
"""

import argparse
import asyncio
import os
import re
import tempfile
import time
from pathlib import Path

import aiohttp

from fleet.traffic import TrafficPolicy
from runtime.engines.vllm_api import parse_metrics
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from tests.runtime.gateway.live import CORVID, Served, routes, running
from tests.runtime.gateway.stage import ACME, CHAT, MAIN, chat

SETTLE_S = 6.0
"""Time that the flood has before anybody else asks."""
WINDOW_S = 24.0
"""How long the real-time client goes on asking; its last request is waited for."""
PATIENCE_S = 90.0
_OK = 200
VLLM = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
_MADE = re.compile(r"^vllm:generation_tokens_total\{.*\} (\S+)$", re.MULTILINE)
WAYS: dict[str, TrafficPolicy | None] = {
    "by default": None,
    "the server's queue": TrafficPolicy(server_in_flight=1_000_000),
}


class Fleet:
    """A vLLM with a gateway before it, and its two clients."""

    def __init__(self, http: aiohttp.ClientSession, gateway: str, server: str) -> None:
        self.http, self.gateway, self.server = http, gateway, server
        self.answered = self.refused = 0

    async def ask(self, key: str, model: str, tokens: int) -> tuple[int, float]:
        """Ask once; return the status, and what Retry-After says."""
        body = chat(model, "charged twice", max_tokens=tokens, ignore_eos=True)
        headers = {"Authorization": f"Bearer {key}"}
        async with self.http.post(self.gateway + CHAT, json=body, headers=headers) as reply:
            await reply.read()
            return reply.status, float(reply.headers.get("Retry-After", "0"))

    async def flood(self, tokens: int) -> None:
        """Be one connection of the batch client."""
        while True:
            status, wait = await self.ask(ACME, "acme-support", tokens)
            if status == _OK:
                self.answered += 1
            else:
                self.refused += 1
                await asyncio.sleep(wait or 1.0)

    async def real_time(self) -> str:
        """Be one request of the real-time client; return how long it took, or why it failed."""
        began = time.perf_counter()
        status, _ = await self.ask(CORVID, "corvid-dates", 8)
        took = time.perf_counter() - began
        return f"{took:.2f}" if status == _OK else f"{took:.2f} (refused, {status})"

    async def page(self) -> str:
        async with self.http.get(f"{self.server}/metrics") as reply:
            return await reply.text()

    async def made(self) -> float:
        """Return the tokens that the server has made."""
        return sum(float(each) for each in _MADE.findall(await self.page()))

    async def is_idle(self) -> bool:
        return parse_metrics(await self.page()).in_flight == 0


async def play(fleet: Fleet, size: int, tokens: int) -> str:
    """Flood, ask, and return what was seen."""
    fleet.answered = fleet.refused = 0
    lengths = [tokens // 2 + number * tokens // size for number in range(size)]
    tasks = [asyncio.create_task(fleet.flood(each)) for each in lengths]
    await asyncio.sleep(SETTLE_S)
    before, began, waits = await fleet.made(), time.perf_counter(), []
    while time.perf_counter() - began < WINDOW_S:
        try:
            async with asyncio.timeout(PATIENCE_S):
                waits.append(await fleet.real_time())
        except TimeoutError:
            waits.append(f"none in {PATIENCE_S:.0f}")
        await asyncio.sleep(0.5)
    rate = (await fleet.made() - before) / (time.perf_counter() - began)
    load = parse_metrics(await fleet.page())
    seen = f"{load.running} run, {load.waiting} wait"
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(PATIENCE_S):
        while not await fleet.is_idle():  # noqa: ASYNC110 (over HTTP)
            await asyncio.sleep(0.2)
    return (
        f"real-time {' '.join(waits)} s; server: {rate:,.0f} tokens/s, at the end {seen}; "
        f"batch: {fleet.answered} answered, {fleet.refused} refused"
    )


async def measure(vllm: Served, state: Path, given: argparse.Namespace) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        serving(state, MAIN) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http,
    ):
        gateways = LocalGateways(state, {"main": MAIN})
        fleet = Fleet(http, url, vllm.url)
        for number in range(2 * given.rounds):
            name = [*WAYS][number % 2]
            table = routes(vllm.url, new=0, revision=number + 1)
            aliases = {
                alias: entry.model_copy(update={"policy": WAYS[name]})
                for alias, entry in table.aliases.items()
            }
            await gateways.publish(table.model_copy(update={"aliases": aliases}))
            if not number:
                alone = [await fleet.real_time() for _ in range(4)][1:]
                print(f"nobody else: {' '.join(alone)} s", flush=True)
            print(f"{name}: {await play(fleet, given.flood, given.tokens)}", flush=True)
        await gateways.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flood", type=int, default=600, help="requests of the batch client")
    parser.add_argument("--tokens", type=int, default=120, help="of its answers, on average")
    parser.add_argument("--kv", type=int, default=64, help="KV cache of the server, MiB")
    parser.add_argument("--slots", type=int, default=4, help="LoRA slots; the flood takes one")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    python = Path(os.environ.get("FLEETCTL_VLLM_PYTHON") or VLLM)
    how = {"kv_cache_bytes": given.kv << 20, "slots": given.slots}
    with tempfile.TemporaryDirectory() as folder, running(python, Path(folder), **how) as vllm:
        asyncio.run(measure(vllm, Path(folder) / "gateway" / ".fleetctl", given))


if __name__ == "__main__":
    main()
