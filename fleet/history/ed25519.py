"""Signs and verifies by Ed25519, in whole numbers alone.

A few entries of a ledger are signed and verified, in a millisecond or two. The library that takes
microseconds would take a seventh of the room that fleetctl has on a machine. How long a signature
takes depends on the key: nothing is signed for strangers, who could measure.

Source: RFC 8032, sections 5.1 and 6; Hisil et al. 2008, "Twisted Edwards Curves Revisited".
"""

from functools import cache, lru_cache
from hashlib import sha512
from typing import Final, TypeAlias

KEY_BYTES: Final = 32
"""Bytes of a seed and of a public key; a signature has twice as many."""
_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT: Final = pow(2, (_P - 1) // 4, _P)
"""A square root of -1."""
_Point: TypeAlias = tuple[int, int, int, int]
"""X, Y, Z, T with x = X/Z, y = Y/Z and xy = T/Z."""
_ZERO: Final[_Point] = 0, 1, 1, 0


@lru_cache(maxsize=16)
def public_key(seed: bytes) -> bytes:
    """Return the public key of a seed."""
    return _packed(_times_base(_secret(seed)[0]))


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the signature of a message by the key of a seed."""
    (scalar, prefix), public = _secret(seed), public_key(seed)
    nonce = _number(prefix, message) % _ORDER
    shown = _packed(_times_base(nonce))
    answer = (nonce + _number(shown, public, message) * scalar) % _ORDER
    return shown + answer.to_bytes(KEY_BYTES, "little")


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether a signature is of this message by this public key."""
    if len(public) != KEY_BYTES or len(signature) != 2 * KEY_BYTES:
        return False
    key, shown = _unpacked(public), _unpacked(signature[:KEY_BYTES])
    answer = int.from_bytes(signature[KEY_BYTES:], "little")
    if key is None or shown is None or answer >= _ORDER:
        return False
    challenge = _number(signature[:KEY_BYTES], public, message) % _ORDER
    x, y, z, t = key
    found = _sum(_times_base(answer), _times(challenge, (-x % _P, y, z, -t % _P)))
    return found[0] * shown[2] % _P == shown[0] * found[2] % _P and (
        found[1] * shown[2] % _P == shown[1] * found[2] % _P
    )


def _secret(seed: bytes) -> tuple[int, bytes]:
    digest = sha512(seed).digest()
    scalar = int.from_bytes(digest[:KEY_BYTES], "little")
    return scalar & ((1 << 254) - 8) | (1 << 254), digest[KEY_BYTES:]


def _number(*parts: bytes) -> int:
    return int.from_bytes(sha512(b"".join(parts)).digest(), "little")


def _sum(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c, d = 2 * _D * one[3] * other[3] % _P, 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _twice(one: _Point) -> _Point:
    x, y, z, _ = one
    a, b = x * x % _P, y * y % _P
    h = a + b
    e, g = h - (x + y) * (x + y) % _P, a - b
    f = 2 * z * z % _P + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(number: int, point: _Point) -> _Point:
    """Multiply by four binary digits at a time."""
    multiples = [_ZERO, point]
    for _ in range(14):
        multiples.append(_sum(multiples[-1], point))
    found = _ZERO
    for digit in f"{number:x}":
        found = _twice(_twice(_twice(_twice(found))))
        found = _sum(found, multiples[int(digit, 16)])
    return found


@cache
def _base_multiples() -> tuple[tuple[_Point, ...], ...]:
    """Return the base point times 0 to 15, times 16 to the power of 0 to 63."""
    y = 4 * pow(5, -1, _P) % _P
    x = _x_of(y, odd=False) or 0
    step: _Point = x, y, 1, x * y % _P
    rows = []
    for _ in range(64):
        row = [_ZERO, step]
        for _ in range(14):
            row.append(_sum(row[-1], step))
        rows.append(tuple(row))
        step = _sum(row[-1], step)
    return tuple(rows)


def _times_base(number: int) -> _Point:
    found = _ZERO
    for row in _base_multiples():
        found, number = _sum(found, row[number & 15]), number >> 4
    return found


def _packed(point: _Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    x, y = x * inverse % _P, y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(KEY_BYTES, "little")


def _unpacked(content: bytes) -> _Point | None:
    number = int.from_bytes(content, "little")
    y, odd = number & ((1 << 255) - 1), bool(number >> 255)
    x = _x_of(y, odd=odd) if y < _P else None
    return None if x is None else (x, y, 1, x * y % _P)


def _x_of(y: int, *, odd: bool) -> int | None:
    """Return the x of a point by its y; None: there is none."""
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT % _P
    if (x * x - square) % _P or (odd and x == 0):
        return None
    return x if (x & 1) == odd else _P - x
