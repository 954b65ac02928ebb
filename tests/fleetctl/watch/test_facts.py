import json
from pathlib import Path

import pytest

from fleet.errors import ConfigError
from runtime.project.facts import read_shape
from tests.runtime.library import synthetic

INDEX = "model.safetensors.index.json"


def test_a_base_without_an_index_weighs_what_its_files_hold(tmp_path: Path) -> None:
    assert read_shape(synthetic.base(tmp_path)).weight_bytes == 5 * 5 * 4


def test_an_index_says_what_counts_where_the_weights_are_shipped_twice(tmp_path: Path) -> None:
    folder = synthetic.base(tmp_path)
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 100}, "weight_map": {}}))
    assert read_shape(folder).weight_bytes == 100


def test_an_index_is_enough_where_the_weights_are_elsewhere(tmp_path: Path) -> None:
    folder = synthetic.base(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 7}, "weight_map": {}}))
    assert read_shape(folder).weight_bytes == 7


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"metadata": []}', "null"])
def test_an_index_that_is_none_is_told_to_people(tmp_path: Path, text: str) -> None:
    folder = synthetic.base(tmp_path)
    (folder / INDEX).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_shape(folder)
    assert [each.code for each in caught.value.diagnostics] == ["FC1219"]
