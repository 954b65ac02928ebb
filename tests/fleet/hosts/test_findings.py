"""Facts of hosts, and what they say of servers there."""

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.hardware import GIB, DeviceSpec, HostSpec
from fleet.hosts import HostFacts, HostFinding, judge_host, parse_facts

CARD = DeviceSpec("gpu0", "rtx4090_24g", 24 * GIB, 0, 8100)
HOST = HostSpec(
    "box1", "ssh", (CARD, replace(CARD, name="gpu1", port=8101)), address="fleet@10.0.0.5"
)
CPU = replace(HOST, devices=(DeviceSpec("cpu0", "cpu", 8 * GIB, 0, 8100),))
TOLD = {
    "user": "fleet", "uid": "1000", "sudo": "closed", "packages": "apt", "os": "debian",
    "rsync": "yes", "sha256sum": "yes", "ss": "yes", "cc": "yes", "systemd": "257", "linger": "yes",
    "manager": "257.13", "python": "3.12.3", "vllm": "0.32.0", "resolver": "2", "numa": "yes",
    "smi": "0", "store": "yes", "store_mode": "700", "store_writable": "yes",
    "store_kib": str(40 << 20), "free_kib": str(70 << 20),
}  # fmt: skip
CARDS = """gpu=0, NVIDIA GeForce RTX 4090, 24564 MiB, 550.54.14
gpu=1, NVIDIA GeForce RTX 4090, 24564 MiB, 550.54.14
listen=0.0.0.0:22 
listen=127.0.0.1:8100 fleetctl-llama3-box1-gpu0.service
"""  # noqa: W291 (a listener without a unit)
IMAGE = f"a.io/vllm@sha256:{'0' * 64}"
OF_IMAGE = {
    "podman": "yes", "newuidmap": "yes", "podman_version": "4.9.3", "image": "yes", "cdi": "yes",
    "nvidia_ctk": "yes",
}  # fmt: skip
CDI = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
MISSING = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"


def facts(cards: str = CARDS, **changed: str) -> HostFacts:
    told = "".join(f"{key}={value}\n" for key, value in {**TOLD, **changed}.items())
    return replace(parse_facts(told + cards), clock_s=(0.2, 1.0), outside={8100: False})


def findings(found: HostFacts, host: HostSpec = HOST) -> tuple[HostFinding, ...]:
    return judge_host(host, found, needed=100 * GIB, resolver="2")


def judged(found: HostFacts, host: HostSpec = HOST) -> dict[str, HostFinding]:
    return {finding.subject: finding for finding in findings(found, host)}


def test_a_good_host_lacks_nothing() -> None:
    found = findings(facts())
    assert [finding for finding in found if finding.verdict != "ok" or finding.command] == []
    assert judged(facts())["device gpu1"].text == (
        "Card 1 is `NVIDIA GeForce RTX 4090` with 24564 MiB."
    )


@pytest.mark.parametrize(
    ("changed", "subject", "verdict", "command"),
    [
        ({"uid": "0"}, "rights", "warning", "sudo useradd --create-home fleetctl"),
        ({"sudo": "open"}, "rights", "warning", "sudo visudo"),
        ({"systemd": "239"}, "systemd", "fault", ""),
        ({"linger": "no"}, "linger", "fault", "sudo loginctl enable-linger fleet"),
        ({"linger": "no", "user": "a;b"}, "linger", "fault", "sudo loginctl enable-linger 'a;b'"),
        ({"manager": "no"}, "user manager", "fault", "sudo systemctl restart user@1000.service"),
        ({"rsync": "no"}, "rsync", "fault", "sudo apt-get install rsync"),
        ({"ss": "no", "packages": "dnf"}, "ss", "fault", "sudo dnf install iproute"),
        ({"ss": "no"}, "ports", "unknown", ""),
        ({"cc": "no"}, "cc", "fault", "sudo apt-get install gcc"),
        ({"python": "missing"}, "vLLM", "fault", "fleetctl host prepare box1"),
        ({"vllm": "none"}, "vLLM", "fault", "fleetctl host prepare box1"),
        ({"incomplete": "yes"}, "vLLM", "fault", "fleetctl host prepare box1"),
        (
            {"vllm": "0.29.1"}, "vLLM", "warning",
            "uv pip install --python .local/share/fleetctl/vllm/bin/python 'vllm==0.32.*'",
        ),
        ({"resolver": "1"}, "resolver", "warning", "fleetctl host prepare box1"),
        ({"resolver": "none"}, "resolver", "warning", "fleetctl host prepare box1"),
        ({"smi": "127"}, "driver", "fault", "sudo apt-get install nvidia-driver"),
        ({"smi": "127", "os": "ubuntu"}, "driver", "fault", "sudo ubuntu-drivers install"),
        (
            {"smi": "9", "smi_error": MISSING}, "driver", "fault",
            "sudo modprobe nvidia || sudo apt-get install nvidia-driver",
        ),
        ({"smi": "18", "smi_error": MISMATCH}, "driver", "fault", "sudo reboot"),
        ({"smi": "124"}, "driver", "fault", "sudo reboot"),
        ({"smi": "15", "smi_error": "GPU is lost"}, "driver", "fault", "sudo dmesg | grep -i nvrm"),
        ({"store": ""}, "store", "warning", "fleetctl host prepare box1"),
        ({"store_mode": "755"}, "store", "warning", "fleetctl host prepare box1"),
        (
            {"store_writable": "no"}, "store", "fault",
            "sudo install -d -m 700 -o fleet .local/share/fleetctl/store",
        ),
        ({"free_kib": str(60 << 20)}, "disk", "warning", "df -h .local/share/fleetctl/store"),
        ({"free_kib": "1000"}, "disk", "fault", "df -h .local/share/fleetctl/store"),
    ],
)  # fmt: skip
def test_what_is_missing_has_the_command_that_helps(
    changed: dict[str, str], subject: str, verdict: str, command: str
) -> None:
    finding = judged(facts(**changed))[subject]
    assert (finding.verdict, finding.command) == (verdict, command)


@pytest.mark.parametrize(
    ("changed", "subject", "verdict", "command"),
    [
        ({"podman": "no"}, "podman", "fault", "sudo apt-get install podman"),
        ({"newuidmap": "no"}, "newuidmap", "fault", "sudo apt-get install uidmap"),
        ({"podman_version": "4.3.1"}, "Quadlet", "fault", "sudo apt-get install podman"),
        ({"podman_version": ""}, "Quadlet", "unknown", ""),
        ({"image": "no"}, "image", "fault", f"podman pull {IMAGE}"),
        ({"vllm": "none"}, "vLLM", "fault", ""),
        ({"vllm": "0.29.1"}, "vLLM", "warning", ""),
        ({"vllm": ""}, "vLLM", "unknown", ""),
        (
            {"python": "broken"}, "vLLM", "fault",
            f"podman run --rm --network=none --entrypoint=python3 {IMAGE} --version",
        ),
        ({"resolver": "none"}, "resolver", "warning", "fleetctl host prepare box1"),
        ({"cdi": "no"}, "CDI", "fault", CDI),
        (
            {"cdi": "no", "nvidia_ctk": "no"}, "CDI", "fault",
            f"sudo apt-get install nvidia-container-toolkit && {CDI}",
        ),
    ],
)  # fmt: skip
def test_what_a_host_with_an_image_lacks_has_the_command_that_helps(
    changed: dict[str, str], subject: str, verdict: str, command: str
) -> None:
    by_image = replace(HOST, image=IMAGE)
    good = facts(cc="no", numa="", **OF_IMAGE)
    assert [found for found in findings(good, by_image) if found.verdict != "ok"] == []
    finding = judged(facts(**OF_IMAGE | changed), by_image)[subject]
    assert (finding.verdict, finding.command) == (verdict, command)


@pytest.mark.parametrize(
    ("card", "verdict"),
    [
        ("gpu=1, NVIDIA GeForce RTX 4090 D, 24564 MiB, 550", "ok"),
        ("gpu=1, NVIDIA GeForce RTX 4090, 23028 MiB, 550", "warning"),
        ("gpu=1, NVIDIA GeForce RTX 4080, 24564 MiB, 550", "fault"),
        ("gpu=1, NVIDIA GeForce RTX 4090, 16376 MiB, 550", "fault"),
        ("gpu=1, NVIDIA GeForce RTX 4090, [N/A], 550", "unknown"),
        ("gpu=²,, \x1b[31m", "fault"),
        ("", "fault"),
    ],
)
def test_a_card_is_compared_with_its_declaration(card: str, verdict: str) -> None:
    lines = f"gpu=0, NVIDIA GeForce RTX 4090, 24564 MiB, 550\n{card}\n"
    findings = judged(facts(lines))
    assert findings["device gpu1"].verdict == verdict
    assert findings["device gpu0"].verdict == "ok"


@pytest.mark.parametrize(
    ("kind", "name", "mib", "verdict"),
    [
        ("h100_80g", "NVIDIA H100 80GB HBM3", 81559, "ok"),
        ("a100_40g", "NVIDIA A100-SXM4-40GB", 40960, "ok"),
        ("a100_80g", "NVIDIA A100-SXM4-40GB", 40960, "fault"),
        ("l40s_48g", "NVIDIA L40S", 46068, "warning"),
        ("l4_24g", "NVIDIA L40S", 46068, "fault"),
        ("a10_24g", "NVIDIA A10G", 24576, "fault"),
        ("our_card", "NVIDIA T4", 81559, "ok"),
    ],
)
def test_kinds_are_known_by_the_names_of_the_driver(
    kind: str, name: str, mib: int, verdict: str
) -> None:
    memory = {"a100_40g": 40, "l40s_48g": 48, "l4_24g": 24, "a10_24g": 24}.get(kind, 80) * GIB
    if kind in ("h100_80g", "our_card"):
        memory = 81559 << 20
    host = replace(HOST, devices=(replace(CARD, kind=kind, memory_bytes=memory),))
    found = facts(f"gpu=0, {name}, {mib} MiB, 550\n")
    assert judged(found, host)["device gpu0"].verdict == verdict


def test_a_host_of_processors_needs_no_driver_and_no_compiler() -> None:
    found = facts("", smi="", cc="no", numa="no")
    assert {"driver", "device cpu0", "cc"} & {*judged(found, CPU)} == set()
    assert judged(found, CPU)["libnuma"].command == "sudo apt-get install libnuma1"


def test_cards_of_another_maker_are_unknown() -> None:
    amd = replace(HOST, devices=(replace(CARD, kind="mi300x_192g"),))
    assert judged(facts(smi="127"), amd)["driver"].verdict == "unknown"


def test_another_release_than_the_declared_is_a_fault() -> None:
    host = replace(CPU, devices=(replace(CPU.devices[0], vllm="0.31.0"),))
    finding = judged(facts(), host)["vLLM"]
    assert (finding.verdict, finding.text) == (
        "fault", "vLLM 0.32.0 is there, and 0.31.0 is declared; stop the servers, then install."
    )  # fmt: skip
    assert "'vllm==" not in finding.command
    assert finding.command.endswith("vllm==0.31.0")
    assert judged(facts(vllm="0.31.2"), host)["vLLM"].verdict == "warning"


@pytest.mark.parametrize(
    ("clock", "verdict"),
    [
        ((5.9, 1.0), "ok"), ((-6.1, 1.0), "warning"), ((30.0, 27.0), "ok"),
        ((3600.0, 2.0), "fault"), ((-3600.0, 2.0), "fault"), (None, "unknown"),
    ],
)  # fmt: skip
def test_a_clock_is_off_by_more_than_the_error_of_the_reading(
    clock: tuple[float, float] | None, verdict: str
) -> None:
    finding = judged(replace(facts(), clock_s=clock))["clock"]
    assert finding.verdict == verdict
    assert ("set-ntp" in finding.command) == (verdict in ("warning", "fault"))


def test_a_port_of_another_program_is_a_fault() -> None:
    found = facts("listen=127.0.0.1:8100 \nlisten=[::1]:8101 \nlisten=*:9 \nlisten=x\n")
    texts = [finding for finding in findings(found) if finding.subject == "ports"]
    assert [finding.command for finding in texts] == [
        "sudo ss -ltnp 'sport = :8100'",
        "sudo ss -ltnp 'sport = :8101'",
    ]


def test_a_port_that_answers_without_ssh_is_a_fault() -> None:
    assert judged(replace(facts(), outside={8100: False, 8101: True}))["outside"].text == (
        "Port 8101 is open to other machines: a server there would show prompts, adapters and "
        "figures to all."
    )
    through_others = replace(facts(), outside=None)
    assert judged(through_others)["outside"].verdict == "ok"
    wide = parse_facts("ss=yes\nlisten=0.0.0.0:8101 fleetctl-x.service\n")
    assert judged(wide)["outside"].verdict == "fault"
    assert judged(replace(through_others, values={}))["outside"].verdict == "unknown"


def test_a_host_that_tells_nothing_is_unknown_and_never_ok() -> None:
    for host in (HOST, CPU):
        assert {finding.verdict for finding in findings(HostFacts({}), host)} == {"unknown"}


@pytest.mark.parametrize(
    "key", sorted({*TOLD} - {"packages", "os", "python", "store", "store_mode", "store_kib"})
)
def test_a_fact_that_is_missing_is_unknown(key: str) -> None:
    host = CPU if key == "numa" else HOST
    verdicts = {finding.verdict for finding in findings(facts(**{key: ""}), host)}
    assert verdicts == {"ok", "unknown"}


@pytest.mark.drawn
@given(
    st.lists(
        st.tuples(st.sampled_from([*TOLD, "gpu", "listen", "clock"]), st.text(string.printable))
    )
)
def test_a_host_may_print_anything(lines: list[tuple[str, str]]) -> None:
    printed = "".join(f"{key}={value}\n" for key, value in lines)
    findings(parse_facts(printed))
