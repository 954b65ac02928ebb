"""What other gateways do not keep, of every fleet and of what aliases declare."""

import pytest

from fleet.declared import Gateway
from fleet.formats import Format, FormatKind
from fleet.traffic import Limits, Policy, Shadow, Sticky, Timeouts
from fleet.translation import Target, lost, translations

STRICT = Policy(
    sticky=Sticky.USER,
    format=Format(FormatKind.JSON),
    limits=Limits(concurrency=2, requests_per_minute=9),
    client_limits=Limits(tokens_per_minute=1000),
    timeouts=Timeouts(first_byte_s=5, total_s=60),
    shadow=Shadow("acme-support-tiny-v2.2.0", ("s1",), 10, 1),
    server_in_flight=4,
    choices=2,
)
POLICIES = {"acme-support": STRICT, "acme-triage": None, "corvid-dates": Policy(choices=3)}


@pytest.mark.parametrize(
    ("target", "counted"),
    [
        (Target.ENVOY, 7),
        (Target.LITELLM, 10),
    ],
)
def test_what_is_declared_and_not_kept_names_the_aliases_that_declare_it(
    target: Target, counted: int
) -> None:
    declared = [each for each in lost(target, POLICIES) if each.aliases]
    assert len(declared) == counted
    assert all("acme-support" in each.aliases for each in declared)
    assert not any("acme-triage" in each.aliases for each in declared)
    (choices,) = [e for e in lost(Target.LITELLM, POLICIES) if "answers to one request" in e.what]
    assert choices.aliases == ("acme-support", "corvid-dates")
    assert not [each for each in lost(target, {"acme-triage": None}) if each.aliases]


def test_a_kind_that_is_declared_and_compiled_for_is_told_of_once() -> None:
    ours, edge = Gateway("main", "a:1", ""), Gateway("edge", "a:2", "", kind="envoy")
    assert translations([ours], (), POLICIES) == ()
    made = translations([ours, edge], ("litellm", "envoy"), POLICIES)
    assert [(each.target, each.gateways) for each in made] == [
        ("envoy", ("edge",)),
        ("litellm", ()),
    ]
    assert made[0].lost == lost(Target.ENVOY, POLICIES)


def test_a_selection_shows_only_its_own_aliases() -> None:
    (made,) = translations([], ("litellm",), POLICIES)
    for each in made.only({"corvid-dates"}).lost:
        assert each.aliases in {(), ("corvid-dates",)}
    assert len(made.only(()).lost) == len(lost(Target.LITELLM, {}))
