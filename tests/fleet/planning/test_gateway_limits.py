"""What other gateways do not keep, of every fleet and of what aliases declare."""

import pytest

from fleet.plan import GatewayTarget
from fleet.planning.gateway_limits import lost, translations
from fleet.response_format import FormatKind, ResponseFormat
from fleet.spec import GatewaySpec
from fleet.traffic import LimitPolicy, ShadowPolicy, Sticky, TimeoutPolicy, TrafficPolicy

STRICT = TrafficPolicy(
    sticky=Sticky.USER,
    format=ResponseFormat(FormatKind.JSON),
    limits=LimitPolicy(concurrency=2, requests_per_minute=9),
    client_limits=LimitPolicy(tokens_per_minute=1000),
    timeouts=TimeoutPolicy(first_byte_s=5, total_s=60),
    shadow=ShadowPolicy("acme-support-tiny-v2.2.0", ("s1",), 10, 1),
    server_in_flight=4,
    choices=2,
)
POLICIES = {"acme-support": STRICT, "acme-triage": None, "corvid-dates": TrafficPolicy(choices=3)}


@pytest.mark.parametrize(
    ("target", "counted"),
    [
        (GatewayTarget.ENVOY, 7),
        (GatewayTarget.LITELLM, 10),
    ],
)
def test_what_is_declared_and_not_kept_names_the_aliases_that_declare_it(
    target: GatewayTarget, counted: int
) -> None:
    declared = [each for each in lost(target, POLICIES) if each.aliases]
    assert len(declared) == counted
    assert all("acme-support" in each.aliases for each in declared)
    assert not any("acme-triage" in each.aliases for each in declared)
    (choices,) = [
        e for e in lost(GatewayTarget.LITELLM, POLICIES) if "answers to one request" in e.what
    ]
    assert choices.aliases == ("acme-support", "corvid-dates")
    assert not [each for each in lost(target, {"acme-triage": None}) if each.aliases]


def test_a_kind_that_is_declared_and_compiled_for_is_told_of_once() -> None:
    ours, edge = GatewaySpec("main", "a:1", ""), GatewaySpec("edge", "a:2", "", kind="envoy")
    assert translations([ours], (), POLICIES) == ()
    made = translations([ours, edge], ("litellm", "envoy"), POLICIES)
    assert [(each.target, each.gateways) for each in made] == [
        ("envoy", ("edge",)),
        ("litellm", ()),
    ]
    assert made[0].lost[2:] == lost(GatewayTarget.ENVOY, POLICIES)
    assert [limit.what.split(":")[0] for limit in made[0].lost[:2]] == [
        "NO FENCE",
        "requests do not wait while a version is loaded again",
    ]


def test_a_selection_shows_only_its_own_aliases() -> None:
    (made,) = translations([], ("litellm",), POLICIES)
    for each in made.only({"corvid-dates"}).lost:
        assert each.aliases in {(), ("corvid-dates",)}
    assert len(made.only(()).lost) == len(lost(GatewayTarget.LITELLM, {}))
