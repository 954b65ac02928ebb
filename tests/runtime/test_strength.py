"""The strength of a secret is its characters times the bits of their alphabet."""

import pytest

from runtime.secrets import is_weak, make_key

HEX = "0123456789abcdef"


@pytest.mark.parametrize(
    ("secret", "weak"),
    [
        (None, False),
        ("", True),
        ("hunter2hunt3", True),
        (HEX * 2, False),
        ((HEX * 2)[1:], True),
        ((HEX * 2).upper(), False),
        ("1234567890" * 3 + "12345678", True),
        ("1234567890" * 3 + "123456789", False),
        ("qwertzuiopasdfghjklyxcvbnmq", True),
        ("qwertzuiopasdfghjklyxcvbnmqw", False),
        ("aB3dE5gH7jK9mN2pQ4sT6v", False),
        ("aB3dE5gH7jK9mN2pQ4sT6", True),
        ("x" * 500, True),
        ("ab" * 64, False),
        ("ab" * 63, True),
        ("fctl_" + "aB3dE5gH7jK9mN2pQ", True),
    ],
)
def test_a_secret_below_128_bits_is_weak(secret: str | None, *, weak: bool) -> None:
    """Before, 16 times the same letter were no weak secret."""
    assert is_weak(secret) == weak


def test_keys_that_are_made_are_strong() -> None:
    assert not any(is_weak(make_key()) for _ in range(100))
