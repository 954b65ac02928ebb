"""Servers keep the flags of an earlier release."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from fleet.resources import FORMATS, Server, ServerFlags, differing, digest_of, format_of, outdated
from fleet.vllm.flags import flag_drift, flags_for, known_flags
from tests.fleet.planning.builders import base

FLAGS = ServerFlags("models/base/tiny", "tiny", 8, 16, 24, extra=(("seed", "1"),))


def with_a_default(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Hash a further flag, as a format 2 with this flag would."""
    return {**flags, "async-scheduling": True}


def renamed(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Hash the flags under other names, as a format 2 of another form would."""
    return {f"--{name}": value for name, value in flags.items()}


LATER = {1: FORMATS[1], 2: with_a_default}


def server_of(digest: str | None, flags: ServerFlags | None = None) -> Server:
    return Server("tiny-laptop-cpu0", "tiny", "laptop", ("cpu0",), 8100, digest, flags)


def test_a_digest_of_format_1_is_what_servers_were_stamped_with() -> None:
    assert FLAGS.digest == "2229dcb3366e"
    hashed = asdict(FLAGS)
    assert hashed.pop("image") == ""  # a later release added it
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    assert FLAGS.digest == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert FLAGS.digest_like(FLAGS.digest) == FLAGS.digest_like(None) == FLAGS.digest


@pytest.mark.parametrize(
    ("digest", "number"), [(None, 1), ("41b7" * 3, 1), ("2." + "41b7" * 3, 2), ("x.1", 1), ("", 1)]
)
def test_a_digest_says_its_format(digest: str | None, number: int) -> None:
    assert format_of(digest) == number


def test_a_later_format_is_in_the_digest_and_the_earlier_one_can_be_made() -> None:
    new, old = (digest_of(asdict(FLAGS), number, LATER) for number in (None, 1))
    assert format_of(new) == 2
    assert old == FLAGS.digest
    assert new[2:] not in {old, ""}
    assert digest_of(asdict(FLAGS), 3, LATER) == ""


@pytest.mark.parametrize("later", [with_a_default, renamed])
def test_a_later_format_changes_no_server_of_an_earlier_one(later: Any) -> None:
    formats = {1: FORMATS[1], 2: later}
    flags = flags_for(base(), 8, 16)
    assert flag_drift(base(), flags, flags.digest, formats) == ""
    assert flag_drift(base(), flags, digest_of(asdict(flags), 2, formats), formats) == ""


@pytest.mark.parametrize("number", [1, 2])
def test_a_flag_that_is_declared_otherwise_is_a_change_in_each_format(number: int) -> None:
    flags = flags_for(base(), 8, 16)
    digest = digest_of(asdict(flags), number, LATER)
    changed = replace(base(), max_model_len=256)
    assert flag_drift(changed, flags, digest, LATER) == "declared otherwise: max_model_len"


def test_a_declared_value_of_a_flag_that_is_new_is_a_change() -> None:
    """A format before leaves out a new flag only where that has its default."""

    def before(flags: Mapping[str, Any]) -> dict[str, Any]:
        known = FORMATS[1](flags).items()
        return {name: value for name, value in known if (name, value) != ("new", None)}

    formats = {1: before, 2: FORMATS[1]}
    running = {**asdict(FLAGS), "new": None}
    assert digest_of(running, 1, formats) == FLAGS.digest
    assert differing(running, running, 1, formats) == ()
    assert differing({**running, "new": 64}, running, 1, formats) == ("new",)


def test_an_image_is_a_flag_that_a_server_of_an_interpreter_lacks() -> None:
    old, new = flags_for(base(), 8, 16), flags_for(base(), 8, 16, image="a.io/b@sha256:1")
    assert old.digest != new.digest
    assert flag_drift(base(), old, old.digest, image=new.image) == "declared otherwise: image"
    assert flag_drift(base(), new, new.digest) == "declared otherwise: image"
    assert flag_drift(base(), new, new.digest, image=new.image) == ""
    assert known_flags(base(), server_of(new.digest), new.image) == new


def test_flags_are_found_by_a_digest_of_their_own_format_alone() -> None:
    flags = flags_for(base(), 8, 16)
    assert known_flags(base(), server_of(flags.digest)) == flags
    assert known_flags(base(), server_of(f"2.{flags.digest}")) is None


def test_a_server_of_an_earlier_format_is_a_note() -> None:
    new, old = (digest_of(asdict(FLAGS), number, LATER) for number in (2, 1))
    digests = {"server/b": old, "server/a": old, "server/c": new, "server/attached": None}
    says = "runs flags of format 1; what format 2 adds takes effect at its next restart by a plan"
    assert outdated(digests, LATER) == (f"server/a {says}", f"server/b {says}")
    assert outdated(digests) == ()
