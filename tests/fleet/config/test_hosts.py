"""Hosts of engine `ssh`, and `local` as this machine alone: from YAML to what is refused."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

from fleet.errors import ConfigError, Diagnostic
from fleet.hardware import HostSpec
from runtime.project.load import load_project
from tests.broken.project import FLEET, valid, write

DEVICES = "devices: {gpu0: {kind: rtx4090_24g, memory: 24GiB}}"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
BOX = f"engine: ssh, address: fleet@10.0.0.5, {DEVICES}"


def declared(root: Path, **hosts: str) -> dict[str, HostSpec]:
    """Return the hosts of a project with these beside its own."""
    more = "".join(f"  {name}: {{{text}}}\n" for name, text in hosts.items())
    write(root, valid() | {"fleet.yaml": FLEET.replace("hosts:\n", f"hosts:\n{more}")})
    return dict(load_project(root, None, {}).fleet.hosts)


def problems(root: Path, **hosts: str) -> list[Diagnostic]:
    with pytest.raises(ConfigError) as raised:
        declared(root, **hosts)
    return list(raised.value.diagnostics)


def test_a_box_keeps_its_paths_as_they_are_there(tmp_path: Path) -> None:
    paths = "python: vllm/bin/python, store: /srv/fleetctl"
    box = declared(tmp_path, box1=f"{BOX}, {paths}", box2=BOX.replace("5", "6"))["box1"]
    assert (box.engine, box.address, box.python, box.store) == (
        "ssh",
        "fleet@10.0.0.5",
        "vllm/bin/python",
        "/srv/fleetctl",
    )
    assert box.listens_on == "127.0.0.1"
    usual = declared(tmp_path, box1=BOX)
    assert usual["box1"] == replace(box, python="", store="")
    assert usual["laptop"].address == "127.0.0.1"
    image = f"docker.io/vllm/vllm-openai:v0.32.0@{DIGEST}"
    assert declared(tmp_path, box1=f'{BOX}, image: "{image}"')["box1"].image == image


@pytest.mark.parametrize(
    "address", ["box1", "fleet@10.0.0.5:2222", "fleet@[fd00::5]", "[fd00::5]:22", "box-1.example"]
)
def test_a_box_has_an_address_of_ssh(tmp_path: Path, address: str) -> None:
    host = declared(tmp_path, box1=f'engine: ssh, address: "{address}", {DEVICES}')["box1"]
    assert host.address == address
    assert host.reached_at.startswith("127.")


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (f"engine: ssh, {DEVICES}", "FC1209", "needs `address`"),
        ("engine: ssh, address: box1", "FC1209", "needs `devices`"),
        (f"{BOX}, paths: {{/a: /b}}", "FC1208", "no paths"),
        (f"engine: fake, port: 1, store: a, {DEVICES}", "FC1208", "no store"),
        (f"engine: fake, port: 1, address: fleet@box1, {DEVICES}", "FC1208", "`fake`"),
        (f'engine: ssh, address: "fd00::5", {DEVICES}', "FC1208", "`ssh`"),
        (f'engine: ssh, address: "-oProxyCommand=x", {DEVICES}', "FC1334", "is not a name"),
        (f'engine: ssh, address: "a@b c", {DEVICES}', "FC1334", "is not a name"),
        (f"{BOX}, supervisor: systemd", "FC1208", "no `supervisor: systemd`"),
        (f"engine: fake, port: 1, supervisor: systemd, {DEVICES}", "FC1208", "no `supervisor"),
        (
            f'{BOX}, supervisor: systemd-system, image: "a.io/b@{DIGEST}"',
            "FC1208",
            "`ssh` with `image` has no `supervisor: systemd-system`",
        ),
        (f'{BOX}, store: "a; id"', "FC1334", "is not the path"),
        (f'{BOX}, store: "~/store"', "FC1334", "is not the path"),
        (f'{BOX}, image: "docker.io/vllm/vllm-openai:v0.32.0"', "FC1143", "a tag alone moves"),
        (f'{BOX}, image: "vllm/vllm-openai@{DIGEST}"', "FC1143", "with registry and digest"),
        (f'{BOX}, image: "a.io/b --privileged@{DIGEST}"', "FC1143", "is not an image"),
        (
            f'{BOX}, python: p, image: "a.io/b@{DIGEST}"',
            "FC1208",
            "`ssh` with `image` has no python",
        ),
        (f'engine: fake, port: 1, image: "a.io/b@{DIGEST}", {DEVICES}', "FC1208", "no image"),
        (f"engine: local, port: 1, python: p, {DEVICES}", "FC1267", "both this machine"),
    ],
)
def test_what_does_not_fit_a_host_is_refused_at_its_place(
    tmp_path: Path, text: str, code: str, says: str
) -> None:
    (problem,) = problems(tmp_path, box1=text)
    assert (problem.code, says in problem.detail) == (code, True), problem
    assert problem.place is not None
    assert problem.place.line == (15 if code == "FC1267" else 14)
    assert problem.hint


@pytest.mark.parametrize("address", ["10.0.0.5", "0.0.0.0", "fleet@box1", "box1", "::"])  # noqa: S104 (refused)
def test_local_on_another_address_names_ssh(tmp_path: Path, address: str) -> None:
    text = FLEET.replace("engine: local\n", f'engine: local\n    address: "{address}"\n')
    write(tmp_path, valid() | {"fleet.yaml": text})
    with pytest.raises(ConfigError) as raised:
        load_project(tmp_path, None, {})
    (problem,) = raised.value.diagnostics
    assert (problem.code, str(problem.place)) == ("FC1267", "fleet.yaml:16:14")
    assert "`engine: ssh`" in problem.hint


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "127.4.0.9", "::1"])
def test_local_listens_on_any_loopback(tmp_path: Path, address: str) -> None:
    text = FLEET.replace("engine: local\n", f'engine: local\n    address: "{address}"\n')
    write(tmp_path, valid() | {"fleet.yaml": text})
    assert load_project(tmp_path, None, {}).fleet.hosts["laptop"].address == address


def test_servers_of_a_box_listen_on_loopback_and_are_reached_on_loopback(tmp_path: Path) -> None:
    for host in declared(
        tmp_path, box1=BOX, box2="engine: ssh, address: 10.0.0.5, " + DEVICES
    ).values():
        assert ip_address(host.listens_on).is_loopback
        assert ip_address(host.reached_at).is_loopback


def test_a_machine_is_declared_once(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, box1=BOX, box2=f"{BOX}, port: 9100")
    assert (problem.code, str(problem.place)) == ("FC1268", "fleet.yaml:15:3")
    assert problem.detail.startswith("`box1` and `box2` would both be reached at 127.")


def test_two_destinations_that_draw_the_same_loopback_are_refused(tmp_path: Path) -> None:
    drawn: dict[str, str] = {}
    for number in count():
        name = f"box{number}"
        other = drawn.setdefault(HostSpec("x", "ssh", address=name).reached_at, name)
        if other != name:
            break
    one, two = (f"engine: ssh, address: {box}, {DEVICES}" for box in (other, name))
    (problem,) = problems(tmp_path, a=one, b=two)
    assert (problem.code, "alias" in problem.hint) == ("FC1268", True)
    assert declared(tmp_path, a=one, b=two.replace(name, f'"{name}:22"'))["b"].engine == "ssh"


def test_devices_of_a_box_have_ports_of_their_own(tmp_path: Path) -> None:
    cpu = "{kind: cpu, memory: 1GiB, port: 8100}"
    devices = f"devices: {{a: {cpu}, b: {cpu}}}"
    (problem,) = problems(tmp_path, box1=f"engine: ssh, address: box1, {devices}")
    assert (problem.code, "`box1:8100`" in problem.detail) == ("FC1207", True)
    other = f"engine: ssh, address: box2, {DEVICES}"
    assert declared(tmp_path, box1=f"engine: ssh, address: box1, {DEVICES}", box2=other)


def test_flags_of_a_base_are_checked_for_boxes(tmp_path: Path) -> None:
    text = FLEET.replace("enable-prefix-caching: true", "trust-remote-code: true")
    text = text.replace("hosts:\n", f"hosts:\n  box1: {{{BOX}, vllm: 0.31.2}}\n")
    write(tmp_path, valid() | {"fleet.yaml": text})
    with pytest.raises(ConfigError, match="not free to choose on `box1`, `laptop`"):
        load_project(tmp_path, None, {})
