"""Names read back in exactly one way, also where a system forbids dots and underscores."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.names import AdapterName

ids = st.from_regex(r"[a-z][a-z0-9]*(_[a-z0-9]+)?", fullmatch=True).filter(
    lambda each: len(each) < 20
)
numbers = st.integers(0, 999)
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@given(st.tuples(ids, ids, ids), st.tuples(numbers, numbers, numbers))
def test_a_name_reads_back_from_its_text_and_from_its_dns_label(
    parts: tuple[str, str, str], version: tuple[int, int, int]
) -> None:
    text = f"{'-'.join(parts)}-v{'.'.join(map(str, version))}"
    name = AdapterName.parse(text)
    assert (str(name), name.client, name.task, name.base) == (text, *parts)
    assert LABEL.fullmatch(name.dns)
    assert AdapterName.from_dns(name.dns) == name


@pytest.mark.parametrize(
    "label", ["", "acme-support-tiny", "acme-support-tiny-v1.0.0", "a-b-v1-0-0"]
)
def test_what_is_no_label_of_an_adapter_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="not"):
        AdapterName.from_dns(label)
