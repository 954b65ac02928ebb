import pytest

from plans.visible import scrubbed


@pytest.mark.parametrize("address", ["10.0.0.5", "10.0.0.5:8000", "[::1]:8000", "[fe80::1]"])
def test_addresses_are_left_out(address: str) -> None:
    assert scrubbed(f"asked {address} twice") == "asked (address left out) twice"


@pytest.mark.parametrize("text", ["not in the lock [FC1210]", "[add]", "[dead]"])
def test_words_in_brackets_are_no_addresses(text: str) -> None:
    assert scrubbed(text) == text
