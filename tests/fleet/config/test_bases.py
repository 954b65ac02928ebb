"""Bases whose declarations and config.json disagree."""

import json
from pathlib import Path

import pytest

from fleet.errors import ConfigError, Diagnostic
from fleet.hardware import sheet_of_device
from fleet.vllm import kv_bytes_per_token
from runtime.project.load import load_project
from tests.broken.project import FLEET, TINY, valid, write


@pytest.mark.parametrize(("tokens", "remedies"), [(512, []), (513, ["Write at most 512."])])
def test_more_tokens_than_the_base_has_positions_are_told(
    tmp_path: Path, tokens: int, remedies: list[str]
) -> None:
    text = FLEET.replace("    dtype:", f"    max_model_len: {tokens}\n    dtype:")
    write(tmp_path, valid() | {"fleet.yaml": text})
    found: list[Diagnostic] = [*load_project(tmp_path, None, {}).warnings]
    assert [each.hint for each in found if each.code == "FC1256"] == remedies


CONFIG = json.dumps({**TINY, "architectures": [TINY["architecture"]]})
COMPUTED = 853_248


@pytest.mark.parametrize("pinned", [0, COMPUTED // 2, COMPUTED * 2])
def test_a_lock_with_other_weights_than_the_config_gives_is_refused(
    tmp_path: Path, pinned: int
) -> None:
    files = valid() | {"models/base/tiny/config.json": CONFIG}
    files["fleet.lock"] = files["fleet.lock"].replace("2097152", str(pinned))
    write(tmp_path, files)
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, None, {})
    (told,) = caught.value.diagnostics
    assert (told.code, f"{COMPUTED:,}" in told.detail) == ("FC1238", True)


def test_weights_of_the_lock_count_where_the_config_gives_about_as_many(tmp_path: Path) -> None:
    files = valid() | {"models/base/tiny/config.json": CONFIG}
    files["fleet.lock"] = files["fleet.lock"].replace("2097152", str(COMPUTED + 2000))
    write(tmp_path, files)
    shape = load_project(tmp_path, None, {}).fleet.bases["tiny"].shape
    assert shape is not None
    assert shape.weight_bytes == COMPUTED + 2000


def test_a_lock_without_weights_is_refused_where_nothing_gives_them(tmp_path: Path) -> None:
    files = valid()
    write(tmp_path, files | {"fleet.lock": files["fleet.lock"].replace("2097152", "0")})
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, None, {})
    assert [told.code for told in caught.value.diagnostics] == ["FC1238"]


QUANTISED = CONFIG.replace("{", '{"quantization_config": {"quant_method": "aqlm"}, ', 1)


@pytest.mark.parametrize(
    ("declared", "codes"), [("", ["FC1239"]), ("    weight_bytes: 1MiB\n", [])]
)
def test_weights_that_nothing_tells_are_declared(
    tmp_path: Path, declared: str, codes: list[str]
) -> None:
    files = valid() | {"models/base/tiny/config.json": QUANTISED}
    files["fleet.lock"] = json.dumps({**json.loads(files["fleet.lock"]), "bases": {}})
    files["fleet.yaml"] = FLEET.replace("    dtype:", f"{declared}    dtype:")
    write(tmp_path, files)
    found = []
    try:
        shape = load_project(tmp_path, None, {}).fleet.bases["tiny"].shape
        assert shape is not None
        assert shape.weight_bytes == 1 << 20
    except ConfigError as error:
        found = [told.code for told in error.diagnostics]
    assert found == codes


def test_declared_figures_of_base_and_device_count(tmp_path: Path) -> None:
    base = "    kv_bytes_per_token: 1000\n    active_parameters: 37000000000\n"
    text = FLEET.replace("    dtype:", f"{base}    dtype:")
    device = "memory: 8GiB, memory_bandwidth: 900, tflops: 100"
    write(tmp_path, valid() | {"fleet.yaml": text.replace("memory: 8GiB", device)})
    fleet = load_project(tmp_path, None, {}).fleet
    assert kv_bytes_per_token(fleet.bases["tiny"]) == 1000
    assert fleet.bases["tiny"].active_parameters == 37_000_000_000
    sheet = sheet_of_device(fleet.hosts["laptop"].devices[0])
    assert sheet is not None
    assert (sheet.bandwidth, sheet.flops) == (900e9, 100e12)


@pytest.mark.parametrize(
    "wrong",
    ["memory_bandwidth: -900", "tflops: 0", "tflops: .nan", "price_per_hour: .nan", "memory: 0GiB"],
)
def test_an_impossible_figure_of_a_device_is_refused_at_its_place(
    tmp_path: Path, wrong: str
) -> None:
    device = "kind: cpu, memory: 8GiB, price_per_hour: 0"
    assert device in FLEET
    name = wrong.partition(":")[0]
    kept = [part for part in device.split(", ") if not part.startswith(name)]
    write(tmp_path, valid() | {"fleet.yaml": FLEET.replace(device, ", ".join([*kept, wrong]))})
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, None, {})
    (told,) = caught.value.diagnostics
    assert told.place is not None
    assert told.place.line == 18
