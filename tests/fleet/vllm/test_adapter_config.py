"""Configurations that a server serves, and those that are refused, ignored or served wrongly."""

from pathlib import Path
from typing import Any

import pytest

from runtime.library.inspect import inspect
from tests.runtime.library.synthetic import (
    BASE,
    MODULES,
    adapter,
    codes,
    config,
    safetensors,
    tensors,
    write,
)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"peft_type": "IA3"}, "FC3101"),
        ({"peft_type": None}, "FC3101"),
        ({"r": None}, "FC3102"),
        ({"r": 0}, "FC3102"),
        ({"r": -4}, "FC3102"),
        ({"r": "4"}, "FC3102"),
        ({"r": True}, "FC3102"),
        ({"r": 4.0}, "FC3102"),
        ({"r": 513}, "FC3103"),
        ({"lora_alpha": None}, "FC3104"),
        ({"lora_alpha": 0}, "FC3104"),
        ({"lora_alpha": float("nan")}, "FC3104"),
        ({"lora_alpha": float("inf")}, "FC3104"),
        ({"lora_alpha": 1_000_000}, "FC3104"),
        ({"lora_alpha": True}, "FC3104"),
        ({"use_dora": True}, "FC3105"),
        ({"use_qalora": True}, "FC3105"),
        ({"use_bdlora": {"nblocks": 2}}, "FC3105"),
        ({"alora_invocation_tokens": [1, 2]}, "FC3105"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "FC3105"),
        ({"target_parameters": ["mlp.experts.gate"]}, "FC3105"),
        ({"trainable_token_indices": [5]}, "FC3105"),
        ({"modules_to_save": ["lm_head"]}, "FC3106"),
        ({"modules_to_save": ["score"]}, "FC3106"),
        ({"bias": "all"}, "FC3107"),
        ({"bias": "lora_only"}, "FC3107"),
        ({"lora_bias": True}, "FC3107"),
        ({"init_lora_weights": "pissa"}, "FC3108"),
        ({"init_lora_weights": "pissa_niter_16"}, "FC3108"),
        ({"init_lora_weights": "olora"}, "FC3108"),
        ({"init_lora_weights": "true"}, "FC3108"),
        ({"init_lora_weights": 1}, "FC3108"),
        ({"rank_pattern": {"(a+)+$": 8}}, "FC3109"),
        ({"rank_pattern": {"q_proj": 0}}, "FC3109"),
        ({"rank_pattern": {"q_proj": 1024}}, "FC3109"),
        ({"rank_pattern": ["q_proj"]}, "FC3109"),
        ({"alpha_pattern": {"q_proj": "16"}}, "FC3109"),
        ({"target_modules": None}, "FC3116"),
        ({"target_modules": []}, "FC3116"),
        ({"target_modules": [["q_proj"]]}, "FC3116"),
        ({"layers_to_transform": "all"}, "FC3117"),
        ({"layers_to_transform": [[0]]}, "FC3117"),
    ],
)
def test_a_configuration_that_would_not_be_served_as_it_says(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    assert code in codes(adapter(tmp_path / "a", **changes))


def test_a_rank_that_is_not_given_at_all(tmp_path: Path) -> None:
    without = config()
    del without["r"]
    assert "FC3102" in codes(write(tmp_path / "a", without, safetensors(tensors())))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("rank", [1, 4, 512])
def test_a_good_adapter_is_taken_with_its_facts(tmp_path: Path, dtype: str, rank: int) -> None:
    folder = adapter(tmp_path / "a", rank, dtype=dtype)
    facts, warnings = inspect(folder, BASE, "tiny", "models/base/tiny")
    assert facts.rank == rank
    assert facts.modules == MODULES
    assert facts.bytes == (folder / "adapter_model.safetensors").stat().st_size
    assert len(facts.digest) == 64
    assert warnings == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"use_rslora": True},
        {"lora_alpha": 0.5},
        {"lora_alpha": 999_999},
        {"target_modules": list(reversed(MODULES))},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva"},
        {"target_modules": "all-linear"},
        {"target_modules": [f"self_attn.{MODULES[-1]}"]},
        {"rank_pattern": {}, "alpha_pattern": {}, "layers_to_transform": None},
        {"base_model_name_or_path": "some/folder/Tiny/"},
        {"base_model_name_or_path": None},
        {"base_model_name_or_path": ""},
    ],
)
def test_what_a_server_does_serve_is_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert inspect(adapter(tmp_path / "a", **changes), BASE, "tiny")[1] == ()


def test_a_few_modules_of_chosen_layers_are_taken(tmp_path: Path) -> None:
    two = ("q_proj", "v_proj")
    chosen = config(modules=two, layers_to_transform=[0, 2])
    folder = write(tmp_path / "a", chosen, safetensors(tensors(modules=two, layers=[0, 2])))
    assert inspect(folder, BASE, "tiny")[0].modules == two


def test_ranks_by_module_are_taken_with_a_warning_and_the_highest_counts(tmp_path: Path) -> None:
    patterned = config(rank_pattern={"q_proj": 8, "mlp.down_proj": 2})
    content = tensors(ranks={"q_proj": 8, "down_proj": 2})
    facts, warnings = inspect(write(tmp_path / "a", patterned, safetensors(content)), BASE, "tiny")
    assert facts.rank == 8
    assert [each.code for each in warnings] == ["FC3134"]


def test_an_adapter_that_names_another_base_is_taken_with_a_warning(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", base_model_name_or_path="org/Mistral-7B")
    warnings = inspect(folder, BASE, "tiny", "models/base/tiny")[1]
    assert [(each.code, each.severity) for each in warnings] == [("FC3110", "warning")]


def test_an_adapter_whose_every_b_is_zero_is_taken_with_a_warning(tmp_path: Path) -> None:
    silent = {n: v * (".lora_A." in n) for n, v in tensors().items()}
    folder = write(tmp_path / "a", config(), safetensors(silent))
    assert [each.code for each in inspect(folder, BASE, "tiny")[1]] == ["FC3133"]


def test_a_pattern_names_whole_parts_of_a_module_only(tmp_path: Path) -> None:
    facts, _ = inspect(adapter(tmp_path / "a", rank_pattern={"proj": 2}), BASE, "tiny")
    assert facts.rank == 4
