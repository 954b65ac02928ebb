"""Quadlet files, as the generator of podman itself reads them."""

from itertools import pairwise

import pytest

from fleet.hosts import (
    Container,
    SystemdUnit,
    container_text,
    server_container,
    server_unit,
    unit_path,
)
from tests.fleet.hosts.test_systemd_unit import WORDS
from tests.quadlets import generated, words_of
from tests.runtime.engines.remote.units import LAUNCH

pytestmark = pytest.mark.needs("podman")
IMAGE = f"docker.io/vllm/vllm-openai:v0.32.0@sha256:{'0123456789abcdef' * 4}"


@pytest.mark.parametrize("word", [word for word in WORDS if "\n" not in word])
def test_a_word_reaches_the_program_in_the_container_unchanged(word: str) -> None:
    unit = SystemdUnit("x.service", "X", ["/no/program", word, "end"], "~", 1, {"NAME": word})
    words = words_of(generated(container_text(unit, Container(IMAGE))))
    assert words[-3:] == [IMAGE, word, "end"]
    assert words[words.index(f"NAME={word}") - 1] == "--env"
    assert "--entrypoint=/no/program" in words


def test_a_line_break_ends_no_setting() -> None:
    unit = SystemdUnit("x.service", "X\nImage=other", ["a\nb", "a\nImage=other"], "~", 1, {})
    text = container_text(unit, Container(IMAGE, [unit_path("/a\nImage=other")]))
    assert text.count("\nImage=") == 1
    assert IMAGE in words_of(generated(text))


def test_a_key_that_podman_does_not_know_is_an_error() -> None:
    text = container_text(SystemdUnit("x.service", "X", ["a"], "~", 1, {}), Container(IMAGE))
    with pytest.raises(ValueError, match="unsupported key 'Imaginary'"):
        generated(text.replace("Network=", "Imaginary="))


def test_the_container_of_a_server_has_what_the_server_needs_and_no_more() -> None:
    unit = server_unit(LAUNCH, "~", "%h/servers/llama3-box1-gpu0/key")
    folders = [unit_path("/srv/50% $store"), unit_path(".local/plug-in")]
    text = container_text(*server_container(unit, IMAGE, folders, "/home/fleet/plug-in"))
    assert text.startswith("# fleetctl-llama3-box1-gpu0.container\n[Unit]\n")
    made = generated(text)
    for line in ("Restart=always", "StartLimitIntervalSec=0", "WantedBy=default.target",
                 "TimeoutStopSec=40", f"Description={unit.description}"):  # fmt: skip
        assert line in made.splitlines()
    assert "network-online" not in made
    words = words_of(made)
    pairs = {*pairwise(words)}
    for pair in (
        ("--network", "host"),
        ("--host", "127.0.0.1"),
        ("--device", "nvidia.com/gpu=0"),
        ("--cap-drop", "all"),
        ("-v", "/srv/50% $store:/srv/50% $store:ro"),
        ("-v", "%h/.local/plug-in:%h/.local/plug-in:ro"),
        ("--env-file", "%h/servers/llama3-box1-gpu0/key"),
        ("--env", "PYTHONPATH=/home/fleet/plug-in"),
        ("--model", "/models/my llama"),
        (IMAGE, "-m"),
    ):
        assert pair in pairs, pair
    alone = {"--pull=never", "--http-proxy=false", "--log-driver=passthrough", "--user=0",
             "--ipc=host", "--stop-timeout=30", "--unsetenv=VLLM_SERVER_DEV_MODE"}  # fmt: skip
    assert alone <= {*words}
    assert "--unsetenv=VLLM_API_KEY" not in words
    assert "--entrypoint=/opt/vllm/bin/python" in words
    assert "CUDA_VISIBLE_DEVICES" not in text
