"""Ed25519 as RFC 8032 has it, and as the library `cryptography` has it."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fleet.history.signatures import is_signed, public_key, sign

VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
]  # fmt: skip
"""Source: RFC 8032, section 7.1, tests 1 and 2."""


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_standard(seed: str, public: str, message: str, signature: str) -> None:
    assert public_key(bytes.fromhex(seed)).hex() == public
    assert sign(bytes.fromhex(seed), bytes.fromhex(message)).hex() == signature
    assert is_signed(*map(bytes.fromhex, (public, message, signature)))


def test_signatures_that_fleetctl_made_before_are_those_of_today() -> None:
    seed = hashlib.sha256(b"a key of before").digest()
    message = hashlib.sha256(b"a line of the ledger").digest()
    signature = (
        "8904aa01746b30f32290c374424e94e47b60667cdc116afb554830ac4078e8cd"
        "e05cd94b2498cdd8db4d2651740739a968034c88a26bfe81a4fda2e703e12a06"
    )
    public = "bc720faa37e6412cdd274fd68e2496b9238f6650dea12d9728742b1ddee2eed3"
    assert public_key(seed).hex() == public
    assert sign(seed, message).hex() == signature


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=99))
def test_signatures_are_those_of_the_library(seed: bytes, message: bytes) -> None:
    its = Ed25519PrivateKey.from_private_bytes(seed)
    public = its.public_key().public_bytes_raw()
    assert public_key(seed) == public
    assert sign(seed, message) == its.sign(message)


@given(
    message=st.binary(min_size=1, max_size=40),
    place=st.integers(0, 127),
    bit=st.sampled_from([1, 8, 128]),
)
def test_no_changed_bit_is_signed(message: bytes, place: int, bit: int) -> None:
    seed = b"s" * 32
    parts = [bytearray(public_key(seed)), bytearray(message), bytearray(sign(seed, message))]
    part = parts[place % 3]
    part[place % len(part)] ^= bit
    assert not is_signed(*map(bytes, parts))


@pytest.mark.parametrize(("public", "signature"), [
    (b"", b"\0" * 64), (b"\0" * 32, b""), (b"\xff" * 32, b"\0" * 64),
    (b"\2" + b"\0" * 31, b"\1" * 64),
    (public_key(b"s" * 32), sign(b"s" * 32, b"m")[:32] + b"\xff" * 32),
])  # fmt: skip
def test_what_is_no_key_and_no_signature_signs_nothing(public: bytes, signature: bytes) -> None:
    assert not is_signed(public, b"m", signature)
