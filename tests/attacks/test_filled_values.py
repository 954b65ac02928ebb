"""Values that placeholders take from the environment: no error and no listing shows them."""

from pathlib import Path

import pytest

from tests.attacks.conftest import call, declare

FILLED = {
    "a URL": 'hosts: {h: {engine: attach, servers: {s: {url: "http://x y/${env:CANARY}", '
    "base: tiny, max_loras: 1, max_lora_rank: 8}}}}\n",
    "a choice": 'rollouts: {r: {when_unsure: "${env:CANARY}"}}\n',
    "a number": 'defaults: {keep_versions: "${env:CANARY}"}\n',
    "a duration": 'evals: {every: "${env:CANARY}"}\n',
    "a name": 'defaults: {tier: "${env:CANARY}"}\n',
    "a reference": 'rollouts: {r: {gates: ["${env:CANARY}"]}}\n',
    "a time zone": 'rollouts: {r: {timezone: "${env:CANARY}"}}\n',
    "a path": 'library: "/outside/${env:CANARY}"\n',
    "a long text": 'evals: {every: "0123456789012345678901234567${env:CANARY}"}\n',
    "a part": 'hosts: {h: {address: "a${env:CANARY}b", port: x}}\n',
    "a listening address": 'gateways: {g: {listen: "${env:CANARY}"}}\n',
    "a version": 'required_version: "${env:CANARY}"\n',
    "a day": 'overrides: {o: {accept: x, alias: y, reason: r, by: b, until: "${env:CANARY}"}}\n',
}


@pytest.mark.parametrize("text", FILLED.values(), ids=FILLED)
def test_no_error_shows_what_the_environment_filled_in(
    project: Path, canary: str, text: str
) -> None:
    declare(project, text)
    for command in (("validate",), ("validate", "--format", "json"), ("plan",), ("config", "show")):
        done = call(project, *command)
        assert done.code == 1, done.text
        for size in range(12, len(canary)):
            assert canary[:size] not in done.text, done.text


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("origin", [True, False])
def test_the_values_in_force_show_placeholders(
    project: Path, canary: str, form: str, *, origin: bool
) -> None:
    declare(
        project,
        'evals: {command: [run, "--token=${env:CANARY}"]}\n'
        'hosts: {h: {engine: ssh, python: "${env:CANARY}/python", address: "${env:CANARY}", '
        "devices: {cpu0: {kind: cpu, memory: 6GiB}}}}\n",
    )
    options = ("--origin",) if origin else ()
    done = call(project, "config", "show", "--format", form, *options)
    assert done.code == 0, done.text
    assert canary not in done.text
    assert done.text.count("${env:CANARY}") == 3
