"""Names of adapters become clients, tasks and versions; whatever a server lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.config import LiveServer, imported_from
from fleet.errors import FleetError
from fleet.names import AdapterName

URL = "http://10.0.0.5:8000"


def server(*adapters: str, url: str = URL, root: str = "/models/tiny") -> LiveServer:
    machine, port = url.removeprefix("http://").split(":")
    folders = {name: f"/adapters/{number}" for number, name in enumerate(adapters)}
    return LiveServer(url, machine, int(port), ("tiny",), root, folders)


@pytest.mark.parametrize(
    ("today", "name"),
    [
        ("acme-lora", "acme-lora-tiny-v1.0.0"),
        ("acme", "acme-main-tiny-v1.0.0"),
        ("acme_support", "acme-support-tiny-v1.0.0"),
        ("acme-lora-v3", "acme-lora-tiny-v3.0.0"),
        ("acme-lora-2.1", "acme-lora-tiny-v2.1.0"),
        ("org/acme-lora", "org-acme_lora-tiny-v1.0.0"),
        ("AcmeLoRA", "acmelora-main-tiny-v1.0.0"),
        ("llama-7b", "llama-b-tiny-v1.0.0"),
        ("42", "client-main-tiny-v1.0.0"),
        ("acme-support-tiny-v2.1.0", "acme-support-tiny-v2.1.1"),
    ],
)
def test_a_name_tells_client_task_and_version(today: str, name: str) -> None:
    (adapter,) = imported_from([server(today)]).adapters
    assert (str(adapter.name), adapter.asked) == (name, today)


def test_several_versions_of_a_task_get_aliases_of_their_own() -> None:
    made = imported_from([server("acme-lora-v1", "acme-lora-v2")])
    assert {adapter.asked: str(adapter.name) for adapter in made.adapters} == {
        "acme-lora-v1": "acme-lora-tiny-v1.0.0",
        "acme-lora-v2": "acme-lora_v2-tiny-v2.0.0",
    }


@given(st.lists(st.text(min_size=1), unique=True, max_size=12))
def test_whatever_a_server_lists_every_name_has_an_alias_of_its_own(names: list[str]) -> None:
    made = imported_from([server(*names)])
    assert {adapter.asked for adapter in made.adapters} == {*names}
    assert len({adapter.name.alias for adapter in made.adapters}) == len(names)
    for adapter in made.adapters:
        assert AdapterName.parse(str(adapter.name)) == adapter.name


def test_a_name_on_servers_of_different_bases_is_refused_with_both_servers() -> None:
    other = "http://10.0.0.6:8000"
    with pytest.raises(FleetError, match="One name for adapters of different bases") as caught:
        imported_from([server("acme"), server("acme", url=other, root="/models/large")])
    detail = caught.value.diagnostics[0].detail
    for shown in (URL, other, "/models/tiny", "/models/large", "`acme`"):
        assert shown in detail


def test_servers_of_a_machine_are_a_host_and_bases_go_by_their_paths() -> None:
    urls = (URL, "http://10.0.0.5:8001", "http://gpu-box.internal:8000")
    made = imported_from([server("acme", url=url) for url in urls])
    assert [(its.host, its.name, its.base) for its in made.servers] == [
        ("vllm_10_0_0_5", "vllm_10_0_0_5_8000", "tiny"),
        ("vllm_10_0_0_5", "vllm_10_0_0_5_8001", "tiny"),
        ("gpu_box_internal", "gpu_box_internal_8000", "tiny"),
    ]
    (adapter,) = made.adapters
    assert len(adapter.servers) == 3
    two = imported_from([server("acme"), server("birch", url=urls[1], root="/models/other")])
    assert [*two.bases] == ["tiny", "tiny_2"]


def test_a_proxys_name_that_means_two_adapters_keeps_the_first() -> None:
    asked = {(URL, "acme-a"): "acme", (URL, "acme-b"): "acme"}
    made = imported_from([server("acme-a", "acme-b", "other")], asked)
    assert [adapter.asked for adapter in made.adapters] == ["acme"]
    left = " ".join(made.left_out)
    assert "`acme-b`" in left
    assert "`other`" in left
