"""Flags of vLLM that a stranger may write: refused by `validate` and again where servers start."""

import contextlib
import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import ConfigError
from fleet.names import Stamps
from fleet.resources import ServerFlags
from fleet.vllm import LaunchProgram, command_line, fault_of, read_back, split_words
from fleet.vllm.flag_rules import FLAG_KINDS, GUARDED, PATHS, RESERVED
from fleet.vllm.known_flags import ALIASES

FLAGS = ServerFlags("m", "tiny", 1, 8, 1)
PROGRAM = LaunchProgram("py", "::1", 1)
EVIL = "--middleware evil.mod"


def started(flag: str, value: str, allowed: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """Return the arguments that the flag adds to a server; None: it is refused."""
    flags = replace(FLAGS, extra=((flag, value),))
    try:
        words = command_line(flags, PROGRAM, Stamps(flags.digest), allowed=allowed)
    except ConfigError:
        return None
    return words[len(command_line(FLAGS, PROGRAM, Stamps(FLAGS.digest))) :]


@pytest.mark.parametrize(
    ("flag", "value", "code"),
    [
        # Beginnings of names, which argparse completes.
        ("trust-rem", "", "FC1330"),
        ("trust-remote-cod", "", "FC1330"),
        ("middlewar", "evil.mod", "FC1330"),
        ("tool-parser-plug", "evil.py", "FC1330"),
        ("served-model", "x", "FC1330"),
        ("max-num", "1", "FC1330"),
        ("config-fil", "x", "FC1330"),
        # Further options within a value.
        ("seed", f"0 {EVIL}", "FC1331"),
        ("seed", "0 --trust-remote-code", "FC1331"),
        ("seed", "0 -tp 2", "FC1331"),
        ("seed", "0\t--config=x.yaml", "FC1331"),
        ("seed", "--trust-remote-code", "FC1331"),
        ("max-num-seqs", "--config", "FC1331"),
        ("lora-target-modules", f"q_proj {EVIL}", "FC1331"),
        ("lora-target-modules", "'--trust-remote-code'", "FC1331"),
        ("quantization", "-O3", "FC1331"),
        ("quantization", "awq --trust-remote-code", "FC1331"),
        ("kv-cache-dtype", "--kv-transfer-config.kv_connector_module_path=evil", "FC1331"),
        ("cudagraph-capture-sizes", "1 2 --config", "FC1331"),
        ("enable-prefix-caching", EVIL, "FC1331"),
        ("enable-prefix-caching", "--no-enable-lora", "FC1331"),
        ("disable-log-stats", "evil", "FC1331"),
        # A dash and a point: the parser reads a part of JSON and swallows the next argument.
        ("watermark", "-0.5", "FC1331"),
        ("seed", "-1.5", "FC1331"),
        ("chat-template", "-a.b", "FC1331"),
        # Values of another kind.
        ("seed", "0x10", "FC1331"),
        ("seed", "", "FC1331"),
        ("seed", "1e3", "FC1331"),
        ("seed", "9" * 30, "FC1331"),
        ("watermark", "nan", "FC1331"),
        ("watermark", "inf", "FC1331"),
        ("max-num-batched-tokens", "8kk", "FC1331"),
        ("scheduling-policy", "prio", "FC1331"),
        ("override-generation-config", "temperature", "FC1331"),
        ("override-generation-config", "[" * 100_000, "FC1331"),
        ("response-role", "a\x00b", "FC1331"),
        ("response-role", "a\x1b[2J", "FC1331"),
        # Names that hold more than a name.
        ("seed=1", "", "FC1330"),
        ("seed 1", "", "FC1330"),
        ("seed --config", "x", "FC1330"),
        ("kv-transfer-config.kv_connector_module_path", "evil", "FC1330"),
        ("override-generation-config.temperature", "0", "FC1330"),
        ("compilation-config.backend+", "evil.mod", "FC1330"),
        ("", "", "FC1330"),
        ("help", "", "FC1330"),
        ("help=all", "", "FC1330"),
        ("O3", "", "FC1330"),
        ("no-seed", "", "FC1330"),
        ("no-disable-log-stats", "", "FC1330"),
        ("no-no-enable-prefix-caching", "", "FC1330"),
        ("Seed", "1", "FC1330"),
        ("ѕeed", "1", "FC1330"),  # noqa: RUF001 (a Cyrillic letter)
        # Other spellings of fleetctl's own flags.
        ("no-enable-lora", "", "FC1215"),
        ("device-memory-utilization", "0.5", "FC1215"),
        ("tp", "2", "FC1215"),
        ("no-disable-fastapi-docs", "", "FC1215"),
        # Values of guarded flags that are free with others.
        ("distributed-executor-backend", "evil.Executor", "FC1332"),
        ("load-format", "tensorizer", "FC1332"),
        ("load-format", "runai_streamer", "FC1332"),
        ("model-impl", "terratorch", "FC1332"),
        # Paths that leave the project.
        ("chat-template", "/etc/passwd", "FC1332"),
        ("chat-template", "../../etc/passwd", "FC1332"),
        ("chat-template", "a/../../b", "FC1332"),
        ("chat-template", "~/.ssh/id_rsa", "FC1332"),
        ("tokenizer", "/proc/self/environ", "FC1332"),
        ("generation-config", "..", "FC1332"),
        ("hf-config-path", "'/etc'", "FC1332"),
    ],
)
def test_an_attack_by_a_flag_is_refused(flag: str, value: str, code: str) -> None:
    fault = fault_of(flag, value)
    assert fault is not None
    assert fault.code == code
    assert fault.hint or fault.code == "FC1330"
    assert started(flag, value) is None


@pytest.mark.parametrize("flag", [*RESERVED, *(name for name in ALIASES)])
def test_no_operator_can_allow_what_is_fleetctls_own_nor_a_short_name(flag: str) -> None:
    fault = fault_of(flag, "1")
    assert fault is not None
    assert fault.code in ("FC1215", "FC1330")
    if flag in RESERVED:
        assert started(flag, "1", (flag,)) is None


@pytest.mark.parametrize("flag", GUARDED)
def test_a_guarded_flag_is_allowed_by_its_own_name_alone(flag: str) -> None:
    value = {"switch": "", "bare": "", "json": "{}", "number": "1"}.get(FLAG_KINDS[flag], "other")
    fault = fault_of(flag, value)
    assert fault is not None
    assert (fault.code, fault.detail) == ("FC1332", GUARDED[flag])
    for others in ((), ("seed",), (flag[:-1],), tuple(name for name in GUARDED if name != flag)):
        assert started(flag, value, others) is None
    assert started(flag, value, (flag,)) == (f"--{flag}", *([value] if value else []))


def test_a_flag_of_another_release_is_let_through_by_its_name() -> None:
    assert fault_of("brand-new", "3", ("brand-new",)) is None
    assert started("brand-new", "3", ("brand-new",)) == ("--brand-new", "3")
    assert started("brand-new", f"3 {EVIL}", ("brand-new",)) is None


@given(text=st.text(alphabet="ab \t\n'\"\\\\-\xa0", max_size=14))
def test_words_are_those_of_a_shell(text: str) -> None:
    try:
        expected = tuple(shlex.split(text))
    except ValueError:
        with pytest.raises(ValueError, match="left open"):
            split_words(text)
    else:
        assert split_words(text) == expected


@pytest.mark.parametrize(
    "text", ["a" * 3_000_000, "'" + "a\\" * 999_999, "a 'b' " * 500_000, "\\a" * 10**6]
)
def test_a_long_value_takes_no_time(text: str) -> None:
    for flag in ("seed", "quantization", "lora-target-modules", "override-generation-config"):
        with contextlib.suppress(ValueError):
            fault_of(flag, text)


@given(
    flag=st.sampled_from([*FLAG_KINDS, *ALIASES, "x"]) | st.text(max_size=12),
    value=st.text(max_size=24),
)
def test_no_declared_text_becomes_a_further_option(flag: str, value: str) -> None:
    try:
        words = started(flag, value)
    except ValueError:  # a quote that is left open, which `validate` refuses before
        return
    options = [word for word in words or () if word.startswith("-") and not word[1:].isdecimal()]
    assert len(options) <= 1


@given(value=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3))
def test_json_is_read_back_from_a_command_line(value: dict[str, object]) -> None:
    extra = (("override-generation-config", json.dumps(value)),)
    flags = replace(FLAGS, model="models/base/tiny", extra=extra)
    read = read_back(command_line(flags, PROGRAM, Stamps(flags.digest)), "/srv")
    assert read is not None
    assert read.flags == flags


def test_every_flag_of_the_rules_is_one_of_vllm() -> None:
    assert {*RESERVED, *GUARDED, *PATHS} <= {*FLAG_KINDS}
    assert {*RESERVED}.isdisjoint(GUARDED)
    assert {*ALIASES.values()} <= {*FLAG_KINDS}
    assert {*ALIASES}.isdisjoint(FLAG_KINDS)


@pytest.mark.live
@pytest.mark.long
def test_the_list_is_that_of_the_real_parser(vllm_python: Path) -> None:
    root = Path(__file__).parents[2]
    program = root / "tests" / "fleet" / "vllm" / "read_parser.py"
    done = subprocess.run([vllm_python, program], capture_output=True, text=True, check=True)
    assert done.stdout == (root / "fleet" / "vllm" / "known_flags.py").read_text(encoding="utf-8")
