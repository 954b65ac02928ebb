"""The plain form of `fleet.codec` is read back; missing and mistyped fields are refused."""

from typing import Any

import pytest

from fleet.codec import MalformedError, decode, plain, resource_of_plain
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, ServerFlags, Share
from fleet.response_format import FormatKind, ResponseFormat
from fleet.traffic import LimitPolicy, ShadowPolicy, Sticky, TimeoutPolicy, TrafficPolicy

FLAGS = ServerFlags("/models/tiny", "tiny", 4, 16, 8, extra=(("enforce-eager", ""),))
POLICY = TrafficPolicy(
    sticky=Sticky.USER,
    format=ResponseFormat(FormatKind.LABELS, labels=("yes", "no")),
    limits=LimitPolicy(concurrency=4, queue_s=2.5),
    timeouts=TimeoutPolicy(total_s=30),
    shadow=ShadowPolicy("acme-support-tiny-v1.1.0", ("tiny-box-gpu0",), 10, 2),
)
RESOURCES: tuple[Resource, ...] = (
    Server("tiny-box-gpu0", "tiny", "box", ("gpu0",), 8001, FLAGS.digest, FLAGS),
    Server("theirs", "tiny", "box", (), 8002, None),
    LoadedAdapter("acme-support-tiny-v1.0.0", "tiny-box-gpu0", "ab" * 32, "/served/x"),
    Route("acme-support", (Share("acme-support-tiny-v1.0.0", 100, ("tiny-box-gpu0",)),), "s"),
    Route("acme-support", (), "s", POLICY),
    Key("acme", "web", "env:WEB", None),
)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.address)
def test_a_resource_is_read_back(resource: Resource) -> None:
    document = plain(resource)
    assert resource_of_plain(document) == resource
    assert plain(resource_of_plain(document)) == document
    assert resource_of_plain(document | {"of_a_later_release": 1}) == resource


@pytest.mark.parametrize(
    ("resource", "field"), [(known, name) for known in RESOURCES for name in sorted(plain(known))]
)
def test_a_resource_without_a_field_is_refused(resource: Resource, field: str) -> None:
    document = {name: value for name, value in plain(resource).items() if name != field}
    if field == "policy":
        assert resource_of_plain(document) != resource
        return
    with pytest.raises(ValueError, match=f"`{field}` is missing|no such kind"):
        resource_of_plain(document)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": "8001"}, r"resource\.port: expected a whole number, found '8001'"),
        ({"port": True}, r"resource\.port: expected a whole number, found True"),
        ({"devices": ["gpu0", 1]}, r"resource\.devices\[1\]: expected text, found 1"),
        ({"flags": {"model": 3}}, r"resource\.flags: `max_cpu_loras` is missing"),
        ({"flags": []}, r"resource\.flags: expected an object, found \[\]"),
        ({"kind": "cluster"}, "no such kind of resource: 'cluster'"),
    ],
)
def test_a_field_of_another_type_is_named_with_its_path(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resource_of_plain(plain(RESOURCES[0]) | change)


def test_a_strict_reader_refuses_an_unknown_field_and_a_lenient_one_passes_it_over() -> None:
    document = plain(RESOURCES[0]) | {"flags": plain(FLAGS) | {"later": 1}}
    with pytest.raises(MalformedError, match=r"^plan\.flags: unknown field `later`$"):
        decode(Server, document, "plan")
    assert decode(Server, document, "plan", lenient=True) == RESOURCES[0]
