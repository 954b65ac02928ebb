"""The text of units, and the listing of units read back."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from fleet.hosts import (
    container_text,
    instance_name,
    script_text,
    server_container,
    server_unit,
    unit_text,
)
from runtime.engines.recognition import FleetMark
from runtime.engines.remote.units import ServerUnit, parse_units, sealed
from tests.runtime.engines.remote.units import LAUNCH, RECORD

UNIT = sealed(unit_text(server_unit(LAUNCH, "~")), RECORD)
FIELDS = {
    "Id": "fleetctl-llama3-box1-gpu0.service",
    "ActiveState": "active",
    "SubState": "running",
    "MainPID": "4711",
    "InvocationID": "1a06f53bfd3b4a3c8b4c8d4b3b0ab07b",
    "NRestarts": "2",
    "UnitFileState": "enabled",
    "NeedDaemonReload": "no",
    "DropInPaths": "",
}
EXPECTED = ServerUnit(
    "llama3-box1-gpu0", "active", 4711, FIELDS["InvocationID"], 2, is_enabled=True,
    is_edited=False, record=RECORD, launch=RECORD.launch, gpus=frozenset("0"),
)  # fmt: skip


def listed(text: str = UNIT, **changes: str) -> str:
    shown = "\n".join(f"{key}={value}" for key, value in (FIELDS | changes).items())
    file = "".join(f" {line}\n" for line in text.splitlines())
    return f"{shown}\n\nFile={FIELDS['Id']}\n{file}"


def test_a_unit_is_read_back_with_its_record() -> None:
    assert parse_units(listed()) == {"llama3-box1-gpu0": EXPECTED}


def test_a_unit_names_its_fleet() -> None:
    made = replace(LAUNCH, environment={**LAUNCH.environment, "FLEETCTL_FLEET": "agency"})
    text = sealed(unit_text(server_unit(made, "~")), RECORD)
    assert parse_units(listed(text))[RECORD.name] == replace(EXPECTED, fleet=FleetMark("agency"))


def test_the_unit_of_a_container_is_read_back_from_its_quadlet_file() -> None:
    made = replace(LAUNCH, environment={**LAUNCH.environment, "FLEETCTL_FLEET": "agency"})
    record = RECORD.model_copy(update={"flags": replace(RECORD.flags, image="a.io/b@sha256:1")})
    text = container_text(*server_container(server_unit(made, "~"), record.flags.image, ["/srv"]))
    unit = parse_units(listed(sealed(text, record), UnitFileState="generated"))[RECORD.name]
    assert unit == replace(EXPECTED, fleet=FleetMark("agency"), record=record)
    drop_in = parse_units(listed("[Service]\nRestart=no\n" + sealed(text, record)))[RECORD.name]
    assert drop_in.is_edited


def test_an_instance_of_roots_template_is_read_back_from_its_script() -> None:
    made = replace(LAUNCH, environment={**LAUNCH.environment, "FLEETCTL_FLEET": "agency"})
    text = sealed(script_text(server_unit(made, "~")), RECORD)
    name = instance_name(RECORD.name)
    (unit,) = parse_units(listed(text).replace(FIELDS["Id"], name, 2)).values()
    assert unit == replace(EXPECTED, fleet=FleetMark("agency"), is_system=True)
    by_hand = listed(text.replace("export", "export A=1 ", 1)).replace(FIELDS["Id"], name, 2)
    assert parse_units(by_hand)[RECORD.name].is_edited


def test_a_script_runs_its_program_with_the_same_words_and_variables(tmp_path: Path) -> None:
    words = ("a b", "$HOME", "'", '"', "\\", "`id`", "a\nb", "%h", "--flag", "")
    (tmp_path / "systemd-cat").write_text('#!/bin/sh\nshift\nexec "$@"\n', encoding="ascii")
    (tmp_path / "systemd-cat").chmod(0o755)
    (tmp_path / "key").write_text("VLLM_API_KEY=k\n", encoding="ascii")
    show = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    made = replace(LAUNCH, arguments=(sys.executable, "-c", show, *words))
    made = replace(made, environment={f"V{number}": word for number, word in enumerate(words)})
    text = sealed(script_text(server_unit(made, "~", str(tmp_path / "key"))), RECORD)
    done = subprocess.run(
        ["/bin/sh", "-s"],
        input=text,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LD_PRELOAD": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    given, environment = json.loads(done.stdout)
    assert given == [*words]
    assert [environment[f"V{number}"] for number in range(len(words))] == [*words]
    assert (environment["VLLM_API_KEY"], "LD_PRELOAD" in environment) == ("k", False)
    assert done.stderr == ""


def test_a_record_of_a_server_without_an_image_names_none() -> None:
    """Earlier releases refuse a field that they do not know."""
    assert "image" not in json.loads(RECORD.model_dump_json())["flags"]
    assert "image" not in RECORD.model_dump(mode="json")["flags"]


def test_a_host_without_units_has_none() -> None:
    assert parse_units("") == {}
    assert parse_units("\n") == {}


def test_a_unit_that_is_loaded_and_whose_file_is_gone_has_no_record() -> None:
    shown = listed().partition("\n\n")[0]
    (unit,) = parse_units(shown).values()
    assert unit == replace(EXPECTED, record=None, launch="", gpus=frozenset(), is_edited=True)


def test_every_change_of_the_text_is_an_edit() -> None:
    lines = UNIT.splitlines()
    for number, line in enumerate(lines):
        for changed in (
            [*lines[:number], *lines[number + 1 :]],
            [*lines[:number], line + " ", *lines[number + 1 :]],
        ):
            (unit,) = parse_units(listed("\n".join(changed) + "\n")).values()
            assert unit.is_edited, line


def test_a_unit_that_systemd_has_not_read_or_that_has_additions_is_edited() -> None:
    for change in ({"NeedDaemonReload": "yes"}, {"DropInPaths": "/home/fleetctl/a.conf"}):
        (unit,) = parse_units(listed(**change)).values()
        assert unit == replace(EXPECTED, is_edited=True)


def test_a_record_under_the_name_of_another_server_counts_as_none() -> None:
    other = RECORD.model_copy(update={"name": "llama3-box1-gpu1"})
    (unit,) = parse_units(listed(sealed(unit_text(server_unit(LAUNCH, "~")), other))).values()
    assert unit.record is None


def test_a_unit_names_what_it_needs() -> None:
    for line in (
        f"Description=vLLM llama3-box1-gpu0, flags {RECORD.digest}",
        "WorkingDirectory=~",
        "Restart=always",
        "KillMode=mixed",
        "TimeoutStopSec=30",
        "WantedBy=default.target",
        "Environment=CUDA_VISIBLE_DEVICES=0",
        '  --model "/models/my llama" \\',
    ):
        assert line in UNIT.splitlines()
