"""Configurations that a server serves, and those that are refused, ignored or served wrongly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import LibraryError
from runtime.library.inspect import inspect
from tests.runtime.library.synthetic import (
    BASE,
    MODULES,
    Tensors,
    adapter,
    codes,
    config,
    safetensors,
    tensor_name,
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


SMALLER = replace(BASE, hidden_size=16, intermediate_size=24, num_attention_heads=2)
LARGER = replace(BASE, hidden_size=64, intermediate_size=96, num_attention_heads=8)
A, B = tensor_name(0, "q_proj", "A"), tensor_name(0, "q_proj", "B")


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda content: {name.replace(old, new): each for name, each in content.items()}


def with_tensor(name: str, shape: tuple[int, ...]) -> Callable[[Tensors], Tensors]:
    return lambda content: {**content, name: np.ones(shape)}


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda content: {name: each for name, each in content.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda _: {}, "FC3120"),
        (renamed("base_model.model.model.", "model."), "FC3121"),
        (renamed("base_model.model.model.", "base_model.model.wrong."), "FC3121"),
        (renamed("lora_A.weight", "lora_A.default.weight"), "FC3121"),
        (renamed("q_proj", "foo_proj"), "FC3121"),
        (renamed("self_attn.q_proj", "mlp.q_proj"), "FC3121"),
        (renamed("layers.2.", "layers.02."), "FC3121"),
        (renamed("layers.2.", f"layers.{'9' * 5000}."), "FC3121"),
        (with_tensor("base_model.model.model.embed_tokens.weight", (64, 32)), "FC3121"),
        (with_tensor("base_model.model.lm_head.weight", (64, 32)), "FC3121"),
        (with_tensor("base_model.model.lm_head.base_layer.weight", (64, 32)), "FC3121"),
        (with_tensor("base_model.model.model.embed_tokens.lora_embedding_A", (4, 64)), "FC3121"),
        (with_tensor("base_model.model.score.weight", (2, 32)), "FC3121"),
        (with_tensor(A.replace("lora_A.weight", "lora_A.bias"), (4,)), "FC3121"),
        (with_tensor(A.replace("lora_A.weight", "lora_magnitude_vector"), (32,)), "FC3121"),
        (renamed("layers.2.", "layers.3."), "FC3122"),
        (renamed("layers.2.", "layers.3."), "FC3129"),
        (without(B), "FC3123"),
        (without(A), "FC3123"),
        (lambda all_: {n: v for n, v in all_.items() if ".lora_A." in n}, "FC3123"),
        (with_tensor(A, (4, 32, 1)), "FC3127"),
        (with_tensor(A, (5, 32)), "FC3127"),
        (with_tensor(A, (4, 31)), "FC3128"),
        (with_tensor(B, (33, 4)), "FC3128"),
        (without(A, B), "FC3129"),
    ],
)
def test_tensors_that_are_not_those_of_an_adapter_for_this_base(
    tmp_path: Path, change: Callable[[Tensors], Tensors], code: str
) -> None:
    assert code in codes(write(tmp_path / "a", config(), safetensors(change(tensors()))))


@pytest.mark.parametrize("other", [SMALLER, LARGER])
def test_an_adapter_for_a_smaller_or_larger_base(tmp_path: Path, other: Any) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(base=other)))
    assert "FC3128" in codes(folder)


def test_an_adapter_of_more_layers_than_the_base(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(layers=range(5))))
    assert codes(folder) == {"FC3122"}


@pytest.mark.parametrize("layers", [[0], [0, 2], [2]])
def test_an_adapter_of_some_layers_only(tmp_path: Path, layers: list[int]) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(layers=layers)))
    assert codes(folder) == {"FC3129"}


def test_layers_missing_from_those_that_the_configuration_chooses(tmp_path: Path) -> None:
    chosen = config(layers_to_transform=[0, 1])
    folder = write(tmp_path / "a", chosen, safetensors(tensors(layers=[0])))
    assert codes(folder) == {"FC3129"}


@pytest.mark.parametrize(("layer", "refused"), [(1, False), (0, True)])
def test_one_chosen_layer_is_a_number(tmp_path: Path, layer: int, *, refused: bool) -> None:
    chosen = config(layers_to_transform=1)
    folder = write(tmp_path / "a", chosen, safetensors(tensors(layers=[layer])))
    if refused:
        assert codes(folder) == {"FC3129"}
    else:
        inspect(folder, BASE, "tiny")


def test_a_declared_module_without_tensors(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(modules=MODULES[1:])))
    assert codes(folder) == {"FC3130"}


@pytest.mark.parametrize(("said", "is_"), [(4, 8), (8, 4)])
def test_tensors_of_another_rank_than_the_configuration(
    tmp_path: Path, said: int, is_: int
) -> None:
    folder = write(tmp_path / "a", config(said), safetensors(tensors(is_)))
    assert codes(folder) == {"FC3131"}


def test_a_rank_pattern_that_the_tensors_do_not_have(tmp_path: Path) -> None:
    patterned = config(rank_pattern={"q_proj": 8})
    assert codes(write(tmp_path / "a", patterned, safetensors(tensors()))) == {"FC3131"}


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [A, tensor_name(2, "down_proj", "B")])
def test_a_value_that_is_no_number(tmp_path: Path, dtype: str, value: float, name: str) -> None:
    content = tensors()
    content[name][-1, -1] = value
    assert codes(write(tmp_path / "a", config(), safetensors(content, dtype))) == {"FC3132"}


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_the_largest_numbers_of_each_type_are_numbers(tmp_path: Path, dtype: str) -> None:
    content = tensors()
    content[A][0, :2] = [65504.0, -65504.0] if dtype == "F16" else [3e38, -3e38]
    inspect(write(tmp_path / "a", config(), safetensors(content, dtype)), BASE, "tiny")


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    broken = config(peft_type="IA3", use_dora=True, bias="all")
    folder = write(tmp_path / "a", broken, safetensors(renamed("q_proj", "foo_proj")(tensors())))
    assert {"FC3101", "FC3105", "FC3107", "FC3121", "FC3130"} <= codes(folder)


def test_a_wrong_base_does_not_bury_the_reader(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", config(), safetensors(tensors(base=LARGER)))
    with pytest.raises(LibraryError) as caught:
        inspect(folder, BASE, "tiny")
    assert len(caught.value.diagnostics) <= 9
    assert caught.value.diagnostics[-1].detail == "And 13 more of this kind."
