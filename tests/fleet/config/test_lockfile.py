"""The lock file: stable, mergeable, and strict when read."""

import json
from dataclasses import replace

import pytest

from fleet.config.files.lockfile import Lock, LockedAdapter, lock_text, parse_lock
from fleet.errors import ConfigError
from fleet.hardware import BaseShape
from fleet.names import AdapterName

ENTRY = LockedAdapter(digest="ab" * 32, rank=8, bytes=10, modules=("q_proj",), base="tiny")
SHAPE = BaseShape("LlamaForCausalLM", 8, 16, 2, 4, 2, 2, 99, 512, 1000)
NAMES = [AdapterName.parse(f"{client}-t-tiny-v1.{n}.0") for client in ("b", "a") for n in (0, 10)]


def full() -> Lock:
    lock = Lock().with_base("tiny", SHAPE)
    for name in NAMES:
        lock = lock.with_adapter(name, ENTRY)
    return lock


def test_what_is_written_is_read_back() -> None:
    assert parse_lock(lock_text(full())) == full()
    assert parse_lock(lock_text(full())).bases["tiny"] == SHAPE
    assert parse_lock(lock_text(Lock())) == Lock()


def test_the_text_does_not_depend_on_the_order_of_additions() -> None:
    lock = Lock()
    for name in reversed(NAMES):
        lock = lock.with_adapter(name, ENTRY)
    assert lock_text(lock.with_base("tiny", SHAPE)) == lock_text(full())


def test_each_adapter_has_a_line_of_its_own() -> None:
    text = lock_text(full())
    lines = [line for line in text.splitlines() if '"digest"' in line]
    assert [json.loads("{" + line.strip().rstrip(",") + "}").popitem()[0] for line in lines] == [
        "a-t-tiny-v1.0.0",
        "a-t-tiny-v1.10.0",
        "b-t-tiny-v1.0.0",
        "b-t-tiny-v1.10.0",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"rank": 8', '"rank": 0', 7),
        ('"rank": 8', '"rank": "x"', 7),
        ("ab" * 32, "AB" * 32, 7),
        ('"a-t-tiny-v1.0.0"', '"a-t-tiny-1.0.0"', 7),
        ('"format": 1', '"format": 6', 2),
        ('"hidden_size": 8, ', "", 4),
        ('"format"', '"form"', 2),
    ],
)
def test_a_malformed_entry_is_named_with_its_line(old: str, new: str, line: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_lock(lock_text(full()).replace(old, new, 1))
    (found,) = caught.value.diagnostics
    assert found.code == "FC1217"
    assert found.place is not None
    assert (found.place.file, found.place.line) == ("fleet.lock", line)


def test_a_lock_with_a_mixture_of_experts_is_of_format_2_and_others_stay_in_format_1() -> None:
    mixture = replace(SHAPE, experts=8, expert_size=16, sparse_layers=2, active_parameters=5000)
    lock = full().with_base("mixed", mixture)
    assert parse_lock(lock_text(lock)) == lock
    assert parse_lock(lock_text(lock)).bases["mixed"] == mixture
    assert (lock.format, full().format) == (2, 1)
    assert "experts" not in lock_text(full())
