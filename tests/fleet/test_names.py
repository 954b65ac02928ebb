"""Names read back in exactly a single way, also where a system forbids dots and underscores."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.names import (
    AdapterName,
    adapter_address,
    adapter_of_address,
    address_parts,
    alias_name,
    alias_of,
    alias_parts,
    base_of_server,
    client_of,
    key_address,
    kind_of_address,
    name_in_address,
    route_address,
    server_address,
    server_name,
    server_of_address,
    step_id,
    step_parts,
    version_of,
)

ids = st.from_regex(r"[a-z][a-z0-9]*(_[a-z0-9]+)?", fullmatch=True).filter(
    lambda text: len(text) < 20
)
numbers = st.integers(0, 999)


@given(st.tuples(ids, ids, ids), st.tuples(numbers, numbers, numbers))
def test_a_name_reads_back_from_its_text(
    parts: tuple[str, str, str], version: tuple[int, int, int]
) -> None:
    text = f"{'-'.join(parts)}-v{'.'.join(map(str, version))}"
    name = AdapterName.parse(text)
    assert (str(name), name.client, name.task, name.base) == (text, *parts)


@given(st.tuples(ids, ids, ids), st.tuples(numbers, numbers, numbers))
def test_the_parts_of_a_name_are_those_that_it_was_made_of(
    parts: tuple[str, str, str], version: tuple[int, int, int]
) -> None:
    client, task, base = parts
    number = ".".join(map(str, version))
    alias = alias_name(client, task)
    adapter = f"{alias}-{base}-v{number}"
    assert alias_parts(alias) == (client, task)
    assert (client_of(alias), client_of(adapter)) == (client, client)
    assert (alias_of(adapter), version_of(adapter)) == (alias, number)
    assert AdapterName.parse(adapter).alias == alias


@given(ids, ids, ids)
def test_a_server_names_its_base(base: str, host: str, device: str) -> None:
    assert base_of_server(server_name(base, host, device)) == base


def test_an_address_is_taken_apart_into_what_it_was_made_of() -> None:
    adapter = adapter_address("acme-support-tiny-v1.0.0", "tiny-box-gpu0")
    assert (adapter_of_address(adapter), server_of_address(adapter)) == (
        "acme-support-tiny-v1.0.0",
        "tiny-box-gpu0",
    )
    others = (server_address("tiny-box-gpu0"), route_address("acme-support"))
    assert [name_in_address(address) for address in others] == ["tiny-box-gpu0", "acme-support"]
    assert [kind_of_address(address) for address in others] == ["server", "route"]
    assert [adapter_of_address(address) for address in others] == ["", ""]
    assert [server_of_address(address) for address in others] == ["", ""]
    assert address_parts(key_address("acme", "web")) == ("key", "acme/web")
    assert step_parts(step_id("load", adapter)) == ("load", adapter)
