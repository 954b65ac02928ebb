"""Flags that fleetctl sets: one table, refused where they are declared and where servers start."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import ConfigError
from fleet.resources import ServerFlags
from fleet.vllm.flags import ALIASES, RESERVED, why_reserved
from fleet.vllm.launch import command_line
from runtime.project.load import load_project
from tests.broken.project import FLEET, valid, write

PLACE = "fleet.yaml:12:13"
SPELLINGS = st.sampled_from(
    [
        *RESERVED,
        *ALIASES,
        *(f"no-{name}" for name in RESERVED),
        *(name[:-1] for name in RESERVED),
        "seed",
        "enable-prefix-caching",
        "max-num-seqs",
    ]
)
VALUES = st.sampled_from(["1", "", "0.5 --port 9", "x --uds=y", "a b", "-tp 2", "--seed 1", "-1"])


def problems_of(root: Path, flag: str, value: str = "x") -> list[tuple[str, str, str]]:
    """Return code, place and detail of the problems of the project with this flag."""
    declared = FLEET.replace("enable-prefix-caching: true", f'{flag}: "{value}"')
    write(root, valid() | {"fleet.yaml": declared})
    try:
        load_project(root, None, {})
    except ConfigError as error:
        return [(one.code, str(one.place), one.detail) for one in error.diagnostics]
    return []


def starts(flag: str, value: str) -> bool:
    flags = ServerFlags("m", "tiny", 1, 8, 1, extra=((flag, value),))
    try:
        command_line(flags, "py", "127.0.0.1", 8000, flags.digest)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("flag", [*RESERVED, *ALIASES])
def test_a_reserved_flag_is_refused_at_its_place_with_its_reason(tmp_path: Path, flag: str) -> None:
    ((code, place, detail),) = problems_of(tmp_path, flag)
    assert (code, place) == ("FC1215", PLACE)
    assert RESERVED[ALIASES.get(flag, flag)] in detail


@pytest.mark.parametrize("flag", RESERVED)
@pytest.mark.parametrize("spelling", ["--{}", "no-{}", "--no-{}"])
def test_a_reserved_flag_is_one_in_every_spelling(flag: str, spelling: str) -> None:
    written = spelling.format(flag)
    assert why_reserved(written) == why_reserved(written.replace("-", "_")) == RESERVED[flag]


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("tp", "2", "`tensor-parallel-size`; set `tensor_parallel`"),
        ("device-memory-utilization", "0.5", "`gpu-memory-utilization`; the planner sets it"),
        ("served-model", "x", "`served-model-name`; it is the base's name"),
        ("device_memory", "0.5", "`device-memory-utilization`; the planner sets it"),
        ("seed", "1 --middleware x", "its value holds `--middleware`; it would run code"),
        ("seed", "1 --served_model=x", "its value holds `--served_model`; vLLM may read it as"),
        ("seed", "1 -tp=2", "its value holds `-tp`; vLLM may read it as `tensor-parallel-size`"),
    ],
)
def test_the_reason_names_what_vllm_reads(flag: str, value: str, says: str) -> None:
    assert says in why_reserved(flag, value)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("seed", "-1"),
        ("seed", "1"),
        ("model-impl", "auto"),
        ("lora-dtype", "--x"),
        ("max-num", "-"),
    ],
)
def test_other_flags_are_free(flag: str, value: str) -> None:
    assert why_reserved(flag, value) == ""


def test_no_other_flag_of_vllm_is_taken_for_a_reserved_one() -> None:
    flags = (Path(__file__).parents[1] / "data" / "vllm_0_32_flags.txt").read_text("utf-8").split()
    assert set(RESERVED) < set(flags)
    taken = {flag for flag in flags if why_reserved(flag)}
    assert taken == {*RESERVED, "no-enable-lora", "device-memory-utilization"}


@settings(max_examples=60, deadline=None)
@given(flag=SPELLINGS, value=VALUES)
def test_what_starts_is_what_validates(
    tmp_path_factory: pytest.TempPathFactory, flag: str, value: str
) -> None:
    problems = problems_of(tmp_path_factory.mktemp("project"), flag, value)
    assert starts(flag, value) is (problems == [])


@pytest.mark.parametrize("value", ["it's", "a\\"])
def test_a_value_that_cannot_be_split_into_arguments_is_refused(tmp_path: Path, value: str) -> None:
    ((code, place, _),) = problems_of(tmp_path, "seed", value.replace("\\", "\\\\"))
    assert (code, place) == ("FC1101", "fleet.yaml:12:19")
