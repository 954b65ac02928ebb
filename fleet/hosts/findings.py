"""Judges every part of a host of engine `ssh`, and names the command that helps."""

import re
from collections.abc import Iterator
from shlex import quote
from typing import Final

from fleet.hardware import GIB, SHEETS, DeviceSpec, HostSpec, is_cpu
from fleet.hosts.facts import HostFacts, HostFinding, HostVerdict, install_command, unknown
from fleet.hosts.units import judge_template
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


_SYSTEMD: Final = 244
"""Lower bound of systemd's version. Units need `:` before the program (systemd.service(5))."""
_SPARE: Final = 1 << 30
"""Room that a host needs beside bases and adapters: for units, logs, parts of files. Bytes."""
_WARNED_S, _WRONG_S = 5.0, 300.0
"""Lower bounds of the clocks' difference for a warning and for a fault. Seconds."""
_REPORTED: Final = 0.99
"""Part of a device's memory that a driver reports at least."""
_OTHER_CARD: Final = 0.9
"""Lower bound of the part of the declared memory that a card of the declared kind has."""
_LOOPBACK: Final = ("127.", "::1", "::ffff:127.")
_PROGRAMS: Final = {"rsync": "rsync", "sha256sum": "coreutils", "ss": "iproute2"}
"""Packages of the programs that every host needs."""
_OF_IMAGES: Final = {"podman": "podman", "newuidmap": "uidmap"}
"""Packages of the programs of hosts that run servers from an image."""
_KNOWN: Final = ".".join(map(str, RELEASE))


def judge_host(
    host: HostSpec, facts: HostFacts, *, needed: int, resolver: str
) -> tuple[HostFinding, ...]:
    """Return findings about every part of a host, in the order of an installation.

    `needed`: bytes of the declared bases and adapters. `resolver`: version of the plug-in of vLLM.
    """
    return (
        _rights(facts),
        *_manager(host, facts),
        *_programs(host, facts),
        *(judge_image(host, facts) if host.image else _interpreter(host, facts)),
        *_resolver(host, facts, resolver),
        *_devices(host, facts),
        *_store(host, facts, needed),
        *_ports(host, facts),
        _outside(host, facts),
        _clock(facts),
    )


def _rights(facts: HostFacts) -> HostFinding:
    user, subject = facts.told("user"), "rights"
    if not (user and facts.told("uid") and facts.told("sudo")):
        return unknown(subject)
    if facts.told("uid") == "0":
        text = "Servers would run as root; name a user of their own in `address`."
        return HostFinding(subject, "warning", text, "sudo useradd --create-home fleetctl")
    if facts.told("sudo") == "open":
        text = f"`{user}`, and so its key of ssh, becomes root by sudo without a password."
        return HostFinding(subject, "warning", text, "sudo visudo")
    return HostFinding(subject, "ok", f"`{user}` is not root, nor by sudo without a password.")


def _manager(host: HostSpec, facts: HostFacts) -> Iterator[HostFinding]:
    user, lingers = facts.told("user") or "USER", facts.told("linger")
    enable = f"sudo loginctl enable-linger {quote(user)}"
    version = facts.number("systemd")
    if version is None:
        yield unknown("systemd")
    elif version < _SYSTEMD:
        found = f"systemd is of version {version}" if version else "There is no systemd"
        yield HostFinding("systemd", "fault", f"{found}; units of servers need {_SYSTEMD}.")
    else:
        yield HostFinding("systemd", "ok", f"systemd is of version {version}.")
    if host.has_system_units:
        yield from judge_template(host.name, facts)
        return
    if lingers == "yes":
        text = f"Servers of `{user}` start with the machine and need no login."
        yield HostFinding("linger", "ok", text)
    elif lingers:
        text = f"Servers of `{user}` would end with its last login and not start with the machine."
        yield HostFinding("linger", "fault", text, enable)
    else:
        yield unknown("linger", enable)
    if not (manager := facts.told("manager")):
        yield unknown("user manager")
    elif manager == "no":
        text = "The user's manager of systemd does not answer; it would keep the servers."
        restart = f"sudo systemctl restart user@{facts.number('uid')}.service"
        yield HostFinding("user manager", "fault", text, restart if lingers == "yes" else enable)
    else:
        yield HostFinding("user manager", "ok", "The user's manager of systemd answers.")


def _programs(host: HostSpec, facts: HostFacts) -> Iterator[HostFinding]:
    # vLLM compiles kernels for cards at its start; an image has its own compiler.
    more = _OF_IMAGES if host.image else {"cc": "gcc"} if _cards(host) else {}
    for program, package in (_PROGRAMS | more).items():
        if not (found := facts.told(program)):
            yield unknown(program)
        elif found == "no":
            text = "The program is missing, or not in the PATH of ssh's commands."
            yield HostFinding(program, "fault", text, install_command(facts, package))
        else:
            yield HostFinding(program, "ok", "The program is there.")


def _interpreter(host: HostSpec, facts: HostFacts) -> Iterator[HostFinding]:
    prepare, path = f"fleetctl host prepare {host.name}", f"`{host.python_there}`"
    python, vllm = map(facts.told, ("python", "vllm"))
    if python in ("missing", "broken"):
        yield HostFinding("vLLM", "fault", f"The interpreter {path} is {python}.", prepare)
        return
    if facts.told("incomplete"):
        text = f"The installation of vLLM for {path} is not complete."
        yield HostFinding("vLLM", "fault", text, prepare)
    elif vllm == "none":
        yield HostFinding("vLLM", "fault", f"{path} (Python {python}) has no vLLM.", prepare)
    else:
        yield _release(host, vllm) if vllm else unknown("vLLM")
    if facts.told("numa") != "yes" and not _cards(host):
        text = "The library libnuma is missing: vLLM for processors fails at its first request."
        missing = HostFinding("libnuma", "fault", text, install_command(facts, "libnuma1"))
        yield missing if facts.told("numa") else unknown("libnuma")


def _resolver(host: HostSpec, facts: HostFacts, newest: str) -> Iterator[HostFinding]:
    resolver = facts.told("resolver")
    if not host.image and facts.told("python") in ("missing", "broken"):
        return  # told already
    if not resolver:
        yield unknown("resolver")
    elif resolver == newest:
        yield HostFinding("resolver", "ok", "Restarted servers load their adapters themselves.")
    else:
        found = "missing" if resolver == "none" else f"{resolver}, not {newest}"
        text = f"The plug-in of vLLM is {found}: restarted servers wait for a reconcile."
        prepare = f"fleetctl host prepare {host.name}"
        yield HostFinding("resolver", "warning", text, prepare)


def _release(host: HostSpec, vllm: str) -> HostFinding:
    declared = next((device.vllm for device in host.devices if device.vllm), "")
    package = quote(f"vllm=={declared or f'{_KNOWN}.*'}")
    other = f"uv pip install --python {quote(host.python_there)} {package}"
    if declared and release(declared) != release(vllm):
        text = f"vLLM {vllm} is there, and {declared} is declared; stop the servers, then install."
        return HostFinding("vLLM", "fault", text, other)
    if release(vllm) != RELEASE:
        text = f"vLLM {vllm} is there; flags are checked with the list of {_KNOWN}."
        return HostFinding("vLLM", "warning", text, other)
    return HostFinding("vLLM", "ok", f"vLLM {vllm}.")


def _devices(host: HostSpec, facts: HostFacts) -> Iterator[HostFinding]:
    cards = _cards(host)
    if any(device.kind.startswith("mi") for device in cards):  # AMD's, of another driver
        yield unknown("driver")
    elif cards and facts.number("smi") == 0:
        yield HostFinding("driver", "ok", f"The driver of NVIDIA is {facts.told('driver') or '?'}.")
        yield from (_card(index, device, facts) for index, device in enumerate(cards))
    elif cards:
        yield _driver(facts)


def _driver(facts: HostFacts) -> HostFinding:
    told = facts.told("smi_error").rstrip(".") or "it gives no reason"
    install = install_command(facts, "nvidia-driver")
    if facts.told("os") == "ubuntu":
        install = "sudo ubuntu-drivers install"
    match facts.number("smi"):
        case None:
            return unknown("driver")
        case 127:
            text, command = "`nvidia-smi` is missing: there is no driver.", install
        case 124:
            text = "`nvidia-smi` does not answer: a card or its driver hangs."
            command = "sudo reboot"
        case _ if "version mismatch" in told:
            text = f"The driver was replaced, and the old one still runs: {told}."
            command = "sudo reboot"
        case _ if "communicate with the NVIDIA driver" in told:
            text = "`nvidia-smi` is there, and no driver runs."
            command = f"sudo modprobe nvidia || {install}"
        case code:
            text, command = f"`nvidia-smi` fails ({code}): {told}.", "sudo dmesg | grep -i nvrm"
    return HostFinding("driver", "fault", text, command)


def _card(index: int, device: DeviceSpec, facts: HostFacts) -> HostFinding:
    subject, card = f"device {device.name}", facts.cards.get(index)
    if card is None:
        text = f"Card {index} is declared as `{device.kind}`; the host shows {len(facts.cards)}."
        return HostFinding(subject, "fault", text, "nvidia-smi --list-gpus")
    shown = f"`{card.name}` with {card.memory_mib or '?'} MiB"
    part = (card.memory_mib or 0) * 1024**2 / (device.memory_bytes or 1)
    words = card.name.lower().replace("rtx ", "rtx").replace("-", " ").split()
    other = device.kind in SHEETS and device.kind.partition("_")[0] not in words
    if other or 0 < part < _OTHER_CARD:
        text = f"Card {index} is {shown}, and declared as `{device.kind}`."
        return HostFinding(subject, "fault", text, "nvidia-smi --list-gpus")
    if part < _REPORTED:
        text = f"Card {index} is {shown}, less than declared."
        return HostFinding(subject, "warning" if part else "unknown", text)
    return HostFinding(subject, "ok", f"Card {index} is {shown}.")


def _store(host: HostSpec, facts: HostFacts, needed: int) -> Iterator[HostFinding]:
    prepare, path = f"fleetctl host prepare {host.name}", f"`{host.store_there}`"
    there = quote(host.store_there)
    writable, mode = facts.told("store_writable"), facts.told("store_mode")
    if not writable:
        yield unknown("store")
    elif writable == "no":
        make = f"sudo install -d -m 700 -o {quote(facts.told('user'))} {there}"
        yield HostFinding("store", "fault", f"{path} cannot be written.", make)
    elif facts.told("store") != "yes":
        yield HostFinding("store", "warning", f"{path} is not there yet.", prepare)
    elif mode != "700":
        text = f"Other users of the host may read or change {path} (mode {mode or 'unknown'})."
        yield HostFinding("store", "warning", text, prepare)
    else:
        yield HostFinding("store", "ok", f"{path} is its user's alone.")
    if (free := facts.number("free_kib")) is None:
        yield unknown("disk")
        return
    room = f"{free / 1024**2:.1f} GiB are free"
    missing = needed + _SPARE - ((free + (facts.number("store_kib") or 0)) << 10)
    if free << 10 < _SPARE:
        yield HostFinding("disk", "fault", f"{room}, less than 1 GiB.", f"df -h {there}")
    elif missing > 0:
        text = f"{room}; all declared bases and adapters need {missing / GIB:.1f} GiB more."
        yield HostFinding("disk", "warning", text, f"df -h {there}")
    else:
        yield HostFinding("disk", "ok", f"{room}, enough for all declared bases and adapters.")


def _ports(host: HostSpec, facts: HostFacts) -> Iterator[HostFinding]:
    if facts.told("ss") != "yes":
        yield unknown("ports")
        return
    ports = sorted(device.port for device in host.devices)
    held = [listener for listener in facts.listeners if listener.port in ports]
    for port in sorted({listener.port for listener in held if not listener.unit}):
        text = f"Port {port} is taken by a program that is no server of fleetctl."
        yield HostFinding("ports", "fault", text, f"sudo ss -ltnp 'sport = :{port}'")
    if all(listener.unit for listener in held):
        text = f"Free, or of servers of fleetctl: {', '.join(map(str, ports))}."
        yield HostFinding("ports", "ok", text)


def _outside(host: HostSpec, facts: HostFacts) -> HostFinding:
    ports = {device.port for device in host.devices}
    opened = {port for port, answers in (facts.outside or {}).items() if answers} | {
        listener.port
        for listener in facts.listeners
        if listener.port in ports and not listener.address.startswith(_LOOPBACK)
    }
    if opened:
        text = (
            f"Port {', '.join(map(str, sorted(opened)))} is open to other machines: a server there "
            "would show prompts, adapters and figures to all."
        )
        return HostFinding("outside", "fault", text, f"sudo ss -ltnp 'sport = :{min(opened)}'")
    if facts.outside is not None:
        text = "From here no port of a server answers without SSH: no prompt, adapter or figure."
    elif facts.told("ss") == "yes":
        text = "No port of a server is open beyond the host itself; none can be tried from here."
    else:
        return HostFinding("outside", "unknown", "The host's ports cannot be tried from here.")
    return HostFinding("outside", "ok", text)


def _clock(facts: HostFacts) -> HostFinding:
    if facts.clock_s is None:
        return unknown("clock")
    ahead, error = facts.clock_s
    if (off := abs(ahead) - error) > _WARNED_S:
        verdict: HostVerdict = "fault" if off > _WRONG_S else "warning"
        text = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's clock."
        return HostFinding("clock", verdict, text, "sudo timedatectl set-ntp true")
    return HostFinding("clock", "ok", f"That of this machine, within {abs(ahead) + error:.0f} s.")


def _cards(host: HostSpec) -> list[DeviceSpec]:
    return [device for device in host.devices if not is_cpu(device.kind)]
