"""Declarations of machines that a stranger may write: flags, interpreters, addresses, bases."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import ConfigError, Diagnostic
from fleet.names import Stamps
from fleet.vllm import command_line
from runtime.project.load import load_project
from tests.attacks.conftest import call, limited
from tests.attacks.test_flags import EVIL, FLAGS, PROGRAM, started
from tests.broken.project import FLEET, valid, write


def problems_of(root: Path, declared: str) -> tuple[Diagnostic, ...]:
    """Return the problems of the project with these flags, written as YAML."""
    text = FLEET.replace("{enable-prefix-caching: true}", f"{{{declared}}}")
    write(root, valid() | {"fleet.yaml": text})
    try:
        return load_project(root, None, {}).warnings
    except ConfigError as error:
        return error.diagnostics


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


@pytest.mark.usefixtures("trust_home")
def test_validate_lets_it_pass_where_the_operator_does(tmp_path: Path) -> None:
    declared, root = "trust-remote-code: true", tmp_path / "checkout"
    (refused,) = problems_of(root, declared)
    done = call(root, *shlex.split(refused.command)[1:])
    assert done.code == 0, done.text
    assert problems_of(root, declared) == ()
    (other,) = problems_of(root, f"{declared}, middleware: evil.mod")
    assert other.command == "fleetctl trust add --code middleware --host laptop"
    more = "  box2:\n    engine: ssh\n    address: box2\n"
    more += "    devices: {cpu0: {kind: cpu, memory: 1GiB}}\n"
    text = FLEET.replace("{enable-prefix-caching: true}", f"{{{declared}}}")
    write(root, valid() | {"fleet.yaml": text.replace("hosts:\n", f"hosts:\n{more}")})
    with pytest.raises(ConfigError, match="not free to choose on `box2`"):
        load_project(root, None, {})


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


@pytest.mark.parametrize("model", ["--config=evil.yaml", "-x", "--trust-remote-code"])
def test_a_base_is_no_flag(tmp_path: Path, model: str) -> None:
    text = FLEET.replace("model: models/base/tiny", f'model: "{model}"')
    write(tmp_path, valid() | {"fleet.yaml": text})
    with pytest.raises(ConfigError, match="could be read as something else"):
        load_project(tmp_path, None, {})
    with pytest.raises(ConfigError, match="as a flag"):
        command_line(replace(FLAGS, model=model), PROGRAM, Stamps("0123456789ab"))


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


@pytest.mark.parametrize(
    "flags",
    [
        "seed: 0x" + "f" * 6000,
        f'seed: "{"9 " * 20_000}"',
        f'quantization: "{"a" * 300_000}"',
        f'override-generation-config: "{"[" * 20_000}"',
        ", ".join(f"flag{number}-of-none: 1" for number in range(300)),
    ],
    ids=["digits", "words", "letters", "brackets", "unknown"],
)
def test_a_flood_in_the_flags_ends_in_an_error(tmp_path: Path, flags: str) -> None:
    text = FLEET.replace("{enable-prefix-caching: true}", f"{{{flags}}}")
    write(tmp_path, valid() | {"fleet.yaml": text})
    assert limited(tmp_path, "validate").code == 1
