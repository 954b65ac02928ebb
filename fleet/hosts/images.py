"""Judges podman, and the image that the servers of a host run from."""

import re
from collections.abc import Iterator
from typing import Final

from fleet.hardware import HostSpec, is_cpu
from fleet.hosts.facts import HostFacts, HostFinding, install_command, unknown
from fleet.vllm import RELEASE, release

_QUADLET: Final = (4, 4)
"""Lower bound of podman's version: it makes units of Quadlet files."""


def judge_image(host: HostSpec, facts: HostFacts) -> Iterator[HostFinding]:
    """Yield findings about podman, the image with its vLLM, and the cards that containers get."""
    version = facts.told("podman_version")
    numbers = tuple(map(int, re.findall("[0-9]{1,9}", version)[:2]))
    if facts.told("podman") != "no":
        if not numbers:
            yield unknown("Quadlet")
        elif numbers < _QUADLET:
            text = f"podman is of version {version}; Quadlet files need 4.4."
            yield HostFinding("Quadlet", "fault", text, install_command(facts, "podman"))
        else:
            yield HostFinding("Quadlet", "ok", f"podman {version} makes units of Quadlet files.")
        yield from _image(host, facts)
    if all(is_cpu(device.kind) for device in host.devices):
        return
    if not (cdi := facts.told("cdi")):
        yield unknown("CDI")
    elif cdi == "yes":
        yield HostFinding("CDI", "ok", "Containers get the cards of NVIDIA by their names of CDI.")
    else:
        text = "The cards of NVIDIA have no names of CDI, by which containers get them."
        command = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        if facts.told("nvidia_ctk") == "no":
            text += " Its container toolkit (a package of NVIDIA's own repository) is missing too."
            command = f"{install_command(facts, 'nvidia-container-toolkit')} && {command}"
        yield HostFinding("CDI", "fault", text, command)


def _image(host: HostSpec, facts: HostFacts) -> Iterator[HostFinding]:
    if facts.told("image") != "yes":
        text, pull = "The image is not there, and a start pulls none.", f"podman pull {host.image}"
        found = HostFinding("image", "fault", text, pull)
        yield found if facts.told("image") else unknown("image", pull)
        return
    yield HostFinding("image", "ok", "The image is there.")
    vllm, declared = facts.told("vllm"), next((d.vllm for d in host.devices if d.vllm), "")
    if facts.told("python") == "broken":
        run = f"podman run --rm --network=none --entrypoint=python3 {host.image} --version"
        yield HostFinding("vLLM", "fault", "`python3` does not run in the image.", run)
    elif not vllm:
        yield unknown("vLLM")
    elif vllm == "none":
        yield HostFinding("vLLM", "fault", "The image has no vLLM.")
    elif declared and release(declared) != release(vllm):
        text = f"vLLM {vllm} is in the image, and {declared} is declared."
        yield HostFinding("vLLM", "fault", text)
    elif release(vllm) != RELEASE:
        known = ".".join(map(str, RELEASE))
        text = f"vLLM {vllm} is in the image; flags are checked with the list of {known}."
        yield HostFinding("vLLM", "warning", text)
    else:
        yield HostFinding("vLLM", "ok", f"vLLM {vllm} is in the image.")
