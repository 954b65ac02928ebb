"""A server's key, from the secret of the fleet, the server and its launch."""

import hashlib
import hmac

import pytest

from fleet.environment import server_key

LAUNCH = "0123456789ab"


def test_a_key_is_an_hmac_over_parts_with_their_lengths() -> None:
    parts = (b"fleetctl server key", b"tiny-laptop-cpu0", LAUNCH.encode())
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    expected = hmac.new(b"secret", message, hashlib.sha256).hexdigest()[:32]
    assert server_key("secret", "tiny-laptop-cpu0", LAUNCH) == expected
    assert expected == "e77dd55770c43b068862c6fb37e2bcf7"


def test_another_secret_server_or_launch_is_another_key() -> None:
    keys = {
        server_key(secret, server, launch)
        for secret in ("one", "two")
        for server in ("tiny-a-b", "tiny-a-b1")
        for launch in (LAUNCH, LAUNCH[::-1], f"1{LAUNCH}")
    }
    assert len(keys) == 12


@pytest.mark.parametrize(("secret", "launch"), [("", LAUNCH), ("secret", ""), ("", "")])
def test_without_a_secret_or_a_launch_there_is_no_key(secret: str, launch: str) -> None:
    assert server_key(secret, "tiny-laptop-cpu0", launch) == ""
