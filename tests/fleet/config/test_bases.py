"""Bases whose declarations and config.json disagree."""

import json
from pathlib import Path

import pytest

from fleet.errors import ConfigError, Diagnostic
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
