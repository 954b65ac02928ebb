"""Flags of vLLM that a stranger may write: refused by `validate` and again where servers start."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import ConfigError, Diagnostic
from fleet.resources import ServerFlags
from fleet.vllm import command_line, fault_of, read_back
from fleet.vllm.flag_rules import GUARDED, KIND, PATHS, RESERVED
from fleet.vllm.known_flags import ALIASES
from runtime.project.load import load_project
from tests.broken.project import FLEET, valid, write

FLAGS = ServerFlags("m", "tiny", 1, 8, 1)
EVIL = "--middleware evil.mod"


def problems_of(root: Path, declared: str) -> tuple[Diagnostic, ...]:
    """Return the problems of the project with these flags, written as YAML."""
    text = FLEET.replace("{enable-prefix-caching: true}", f"{{{declared}}}")
    write(root, valid() | {"fleet.yaml": text})
    try:
        return load_project(root, None, {}).warnings
    except ConfigError as error:
        return error.diagnostics


def started(flag: str, value: str, allowed: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """Return the arguments that the flag adds to a server; None: it is refused."""
    flags = replace(FLAGS, extra=((flag, value),))
    try:
        words = command_line(flags, "py", "::1", 1, flags.digest, allowed=allowed)
    except ConfigError:
        return None
    return words[len(command_line(FLAGS, "py", "::1", 1, FLAGS.digest)) :]


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
    assert fault.hint
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
    value = {"switch": "", "bare": "", "json": "{}", "number": "1"}.get(KIND[flag], "other")
    fault = fault_of(flag, value)
    assert fault is not None
    assert (fault.code, fault.detail) == ("FC1332", GUARDED[flag])
    for others in ((), ("seed",), (flag[:-1],), tuple(name for name in GUARDED if name != flag)):
        assert started(flag, value, others) is None
    assert started(flag, value, (flag,)) == (f"--{flag}", *([value] if value else []))


@pytest.mark.parametrize(
    "declared",
    [
        "trust-remote-code: true",
        "trust-rem: true",
        'middleware: "evil.mod"',
        f'seed: "0 {EVIL}"',
        "seed: true",
        'seed: "1 2"',
        'enable-prefix-caching: "true"',
        "enable-prefix-caching: 1",
        "no-enable-prefix-caching: true",
        "no-enable-lora: true",
        "seed: -1.5",
        "seed: .inf",
        'tool-parser-plugin: "golden/evil.py"',
        'worker-extension-cls: "evil.Worker"',
        'config: "more.yaml"',
        'logits-processors: "evil:Processor"',
        'chat-template: "/etc/passwd"',
        'api-key: "x"',
        'hf-token: "hf_x"',
        'ssl-keyfile: "k"',
        'root-path: "/x"',
        'default-mm-loras: "{}"',
        """kv-transfer-config: '{"kv_connector_module_path": "evil"}'""",
        """speculative-config: '{"method": "custom_class", "model": "evil.Proposer"}'""",
        """compilation-config: '{"backend": "evil.compile"}'""",
        """structured-outputs-config: '{"reasoning_parser_plugin": "evil.py"}'""",
    ],
)
def test_validate_refuses_it_at_its_place(tmp_path: Path, declared: str) -> None:
    (problem,) = problems_of(tmp_path, declared)
    assert problem.code in ("FC1215", "FC1330", "FC1331", "FC1332")
    assert problem.place is not None
    assert (problem.place.file, problem.place.line) == ("fleet.yaml", 12)
    assert problem.hint


def test_the_refusal_of_a_guarded_flag_prints_the_command_that_allows_it(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "trust-remote-code: true")
    assert problem.code == "FC1332"
    assert problem.command == "fleetctl trust add --code trust-remote-code --host laptop"


def test_a_misspelt_name_gets_its_neighbour(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "enable-prefix-cachin: true")
    assert (problem.code, problem.hint) == ("FC1330", "Did you mean `enable-prefix-caching`?")


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("seed: 7", ("--seed", "7")),
        ("seed: -1", ("--seed", "-1")),
        ("enable-prefix-caching: false", ("--no-enable-prefix-caching",)),
        ("trust-remote-code: false", ("--no-trust-remote-code",)),
        ("disable-log-stats: true", ("--disable-log-stats",)),
        ("watermark: 0.01", ("--watermark", "0.01")),
        ("max-num-batched-tokens: 8k", ("--max-num-batched-tokens", "8k")),
        ("load-format: dummy", ("--load-format", "dummy")),
        ("chat-template: chat/t.jinja", ("--chat-template", "chat/t.jinja")),
        ("lora-target-modules: q_proj v_proj", ("--lora-target-modules", "q_proj", "v_proj")),
        (
            """override-generation-config: '{"temperature": 0.1}'""",
            ("--override-generation-config", '{"temperature": 0.1}'),
        ),
        (
            """override-generation-config: '''{"temperature": 0.1}'''""",
            ("--override-generation-config", '{"temperature": 0.1}'),
        ),
    ],
)
def test_what_is_right_goes_on_as_single_arguments(
    tmp_path: Path, declared: str, words: tuple[str, ...]
) -> None:
    assert problems_of(tmp_path, declared) == ()
    ((flag, value),) = load_project(tmp_path, None, {}).fleet.bases["tiny"].extra
    assert started(flag, value) == words


def test_a_host_of_another_release_is_told_which_list_checks_its_flags(tmp_path: Path) -> None:
    text = FLEET.replace("    engine: local\n", "    engine: local\n    vllm: 0.31.2\n")
    write(tmp_path, valid() | {"fleet.yaml": text})
    (warning,) = load_project(tmp_path, None, {}).warnings
    assert (warning.code, warning.severity) == ("FC1333", "warning")
    assert "declares vLLM 0.31.2, and flags are checked with the list of 0.32" in warning.detail


def test_a_flag_of_another_release_is_let_through_by_its_name() -> None:
    assert fault_of("brand-new", "3", ("brand-new",)) is None
    assert started("brand-new", "3", ("brand-new",)) == ("--brand-new", "3")
    assert started("brand-new", f"3 {EVIL}", ("brand-new",)) is None


@pytest.mark.parametrize("model", ["--config=evil.yaml", "-x", "--trust-remote-code"])
def test_a_base_is_no_flag(tmp_path: Path, model: str) -> None:
    text = FLEET.replace("model: models/base/tiny", f'model: "{model}"')
    write(tmp_path, valid() | {"fleet.yaml": text})
    with pytest.raises(ConfigError, match="could be read as something else"):
        load_project(tmp_path, None, {})
    with pytest.raises(ConfigError, match="as a flag"):
        command_line(replace(FLAGS, model=model), "py", "::1", 1, "0123456789ab")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("python", "python -c 'import os'"),
        ("python", "-c"),
        ("python", "@/bin/sh"),
        ("python", "+/bin/sh"),
        ("python", "sh;id"),
        ("python", "$(id)"),
        ("python", "`id`"),
        ("python", "bin/python\\nExecStartPre=/bin/sh"),
        ("address", "--config"),
        ("address", "127.0.0.1 --config x"),
        ("address", "127.0.0.1\\n"),
        ("address", "http://x"),
        ("address", "a/b"),
        ("address", ""),
    ],
)
def test_a_program_and_an_address_are_nothing_else(tmp_path: Path, key: str, value: str) -> None:
    text = FLEET.replace("    python: .venv-vllm/bin/python\n", "" if key == "python" else "\\g")
    text = text.replace("\\g", "    python: .venv-vllm/bin/python\n")
    text = text.replace("    engine: local\n", f'    engine: local\n    {key}: "{value}"\n')
    write(tmp_path, valid() | {"fleet.yaml": text})
    with pytest.raises(ConfigError) as raised:
        load_project(tmp_path, None, {})
    assert {one.code for one in raised.value.diagnostics} <= {"FC1334", "FC1101"}


@given(
    flag=st.sampled_from([*KIND, *ALIASES, "x"]) | st.text(max_size=12), value=st.text(max_size=24)
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
    read = read_back(command_line(flags, "py", "::1", 1, flags.digest), "/srv")
    assert read is not None
    assert read.flags == flags


def test_every_flag_of_the_rules_is_one_of_vllm() -> None:
    assert {*RESERVED, *GUARDED, *PATHS} <= {*KIND}
    assert {*RESERVED}.isdisjoint(GUARDED)
    assert {*ALIASES.values()} <= {*KIND}
    assert {*ALIASES}.isdisjoint(KIND)


@pytest.mark.live
@pytest.mark.long
def test_the_list_is_that_of_the_real_parser(vllm_python: Path) -> None:
    root = Path(__file__).parents[2]
    program = root / "tests" / "fleet" / "vllm" / "read_parser.py"
    done = subprocess.run([vllm_python, program], capture_output=True, text=True, check=True)
    assert done.stdout == (root / "fleet" / "vllm" / "known_flags.py").read_text(encoding="utf-8")
