"""Keeps the sketches of a cell as bytes, and reads them."""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, TypeAlias

import numpy as np

from fleet.usage import SKETCHES, Sketch, bucket_of

SKETCH_STEP: Final = 2**17
"""Distance of the keys of two sketches. The sketches of a cell are one BLOB of pairs, 8 bytes a
pair, a key and a count; a key is the bucket plus this for every sketch before in `SKETCHES`."""

_Pairs: TypeAlias = dict[tuple[int, int], tuple[int, int]]


def stored_pairs(pairs: Mapping[int, int]) -> bytes:
    """Return counts by key as they lie in the file."""
    return array("i", chain.from_iterable(pairs.items())).tobytes()


def added(first: bytes, second: bytes) -> bytes:
    """Return the sum of the sketches of two cells, as they lie in the file."""
    pairs = Counter(dict(np.frombuffer(first, "<i4").reshape(-1, 2).tolist()))
    for key, count in np.frombuffer(second, "<i4").reshape(-1, 2).tolist():
        pairs[key] += count
    return stored_pairs(pairs)


def summed(blobs: Sequence[bytes]) -> bytes:
    """Return the sum of the sketches of many cells, as they lie in the file."""
    keys, counts = np.frombuffer(b"".join(blobs), "<i4").reshape(-1, 2).T
    found, place = np.unique(keys, return_inverse=True)
    return np.column_stack((found, np.bincount(place, counts))).astype("<i4").tobytes()


def merged(blobs: Sequence[bytes], pairs: _Pairs) -> Iterator[Sketch]:
    """Yield the sums of the sketches of cells, in the order of `SKETCHES`.

    `pairs` are shared by the sketches of a reading, which has few different ones: else they would
    take most of its memory.
    """
    counts: Counter[int] = Counter()
    for blob in blobs:
        its = array("i", blob)
        for key, count in zip(its[::2], its[1::2], strict=True):
            counts[key] += count
    found = sorted(counts.items())
    for number in range(len(SKETCHES)):
        base, half = number * SKETCH_STEP, SKETCH_STEP // 2
        first, end = (bisect_left(found, (base + side,)) for side in (-half, half))
        own = ((key - base, count) for key, count in found[first:end])
        yield Sketch(tuple(pairs.setdefault(pair, pair) for pair in own))


def latencies_within(cells: Sequence[tuple[int, bytes]], limit_s: float) -> tuple[int, int]:
    """Return how many starts have latencies, and of how many the p95 is within a limit.

    `cells`: start and sketches. All of them are read at once: a bill has half a million.
    """
    filled = [(start, blob) for start, blob in cells if blob]
    if not filled:
        return 0, 0
    keys, counts = np.frombuffer(b"".join(blob for _, blob in filled), "<i4").reshape(-1, 2).T
    ends = np.cumsum([len(blob) // 8 for _, blob in filled])
    begins = np.append(0, ends[:-1])
    _, place = np.unique([start for start, _ in filled], return_inverse=True)
    # The latencies are the first of `SKETCHES`, and their keys the lowest.
    answered, within = (
        np.bincount(place, np.add.reduceat(counts * (keys <= last), begins))
        for last in (SKETCH_STEP // 2, bucket_of(limit_s))
    )
    return int((answered > 0).sum()), int((100 * within >= 95 * answered)[answered > 0].sum())
