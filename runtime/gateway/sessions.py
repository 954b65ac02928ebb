"""The server that a session keeps to, so that its prefix stays in that server's cache.

A session has an order of all servers, by a hash that every gateway computes alike; a server that
comes or goes moves the sessions of that server only. A busy server is passed over.

Source:
    Thaler and Ravishankar 1998, Using name-based mappings to increase hit rates: the highest random
    weight. Mirrokni, Thorup and Zadimoghaddam 2016, arXiv:1608.01350: the bound of the load.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import Final

MIN_BOUND: Final = 8
"""Requests on a server below which no session leaves the server: one step of an engine."""
_LOAD: Final = 1.25
"""Upper bound of the requests on a session's server, in means of the servers that hold the version.
"""
_WORD: Final = 2**64 - 1
_ODD: Final = 0x9E3779B97F4A7C15


def session_hash(alias: str, user: bytes) -> int:
    """Return the hash of a session, or user, of an alias."""
    named = alias.encode() + b"\0" + user
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big")


def in_order(session: int, servers: Sequence[str]) -> list[str]:
    """Return servers in the order of a session, its own server first."""

    def weight(server: str) -> int:
        mixed = (session ^ _seed(server)) * _ODD & _WORD
        return (mixed ^ mixed >> 29) * _ODD & _WORD

    return sorted(servers, key=weight, reverse=True)


def load_bound(servers: Sequence[str], busy: Mapping[str, int]) -> int:
    """Return the number of requests from which on a server is passed over by sessions."""
    total = sum(busy.get(server, 0) for server in servers) + 1
    return max(MIN_BOUND, ceil(_LOAD * total / len(servers)))


@lru_cache(maxsize=4096)
def _seed(server: str) -> int:
    return int.from_bytes(hashlib.blake2b(server.encode(), digest_size=8).digest(), "big")
