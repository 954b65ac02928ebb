"""Preflight beside vLLM's own loader: what is taken here loads there, with the same scale."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.library.inspect import inspect
from tests.runtime.library.synthetic import (
    BASE,
    MODULES,
    adapter,
    codes,
    config,
    safetensors,
    tensor_name,
    tensors,
    write,
)

# Loads each folder as a server would, and prints rank and number of pairs, or the error.
LOADER = """
import json, sys, types
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper
limits = types.SimpleNamespace(max_lora_rank=64)
found = {}
for name, folder in json.loads(sys.argv[1]).items():
    try:
        helper = PEFTHelper.from_local_dir(folder, None)
        helper.validate_legal(limits)
        modules = set(json.loads(sys.argv[2]))
        model = LoRAModel.from_local_checkpoint(folder, modules, helper, device="cpu")
        rank = max([helper.r, *helper.rank_pattern.values()])
        pairs = [x for x in model.loras.values() if x.lora_b is not None]
        found[name] = [rank, len(pairs)]
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def taken(root: Path) -> dict[str, Path]:
    patterned = config(rank_pattern={"q_proj": 8}, alpha_pattern={"v_proj": 4})
    chosen = config(modules=["q_proj"], layers_to_transform=[0, 2])
    some = tensors(modules=["q_proj"], layers=[0, 2])
    wide = safetensors(tensors(ranks={"q_proj": 8}))
    made = {
        "plain": adapter(root / "plain"),
        "half": adapter(root / "half", dtype="F16"),
        "brain": adapter(root / "brain", dtype="BF16"),
        "stabilised": adapter(root / "stabilised", use_rslora=True),
        "gaussian": adapter(root / "gaussian", init_lora_weights="gaussian"),
        "eva": adapter(root / "eva", init_lora_weights="eva"),
        "named": adapter(root / "named", target_modules="all-linear"),
        "patterned": write(root / "patterned", patterned, wide),
        "chosen": write(root / "chosen", chosen, safetensors(some)),
    }
    for folder in made.values():
        inspect(folder, BASE, "tiny")
    return made


def refused(root: Path) -> dict[str, Path]:
    broken: dict[str, dict[str, Any]] = {
        "dora": {"use_dora": True},
        "saved": {"modules_to_save": ["lm_head"]},
        "bias": {"bias": "all"},
        "pissa": {"init_lora_weights": "pissa"},
        "true": {"init_lora_weights": "true"},
        "zero": {"r": 0},
        "activated": {"alora_invocation_tokens": [1]},
    }
    made = {name: adapter(root / name, **changes) for name, changes in broken.items()}
    foo = {n.replace("q_proj", "foo_proj"): v for n, v in tensors().items()}
    made["foo"] = write(root / "foo", config(), safetensors(foo))
    made["cut"] = write(root / "cut", config(), safetensors(tensors())[:-1])
    return made


def accepted_silently(root: Path) -> dict[str, Path]:
    content = tensors()
    content[tensor_name(0, "q_proj", "A")][0, 0] = np.nan
    return {
        "ia3": adapter(root / "ia3", peft_type="IA3"),
        "nan": write(root / "nan", config(), safetensors(content)),
        "one_layer": write(root / "one", config(), safetensors(tensors(layers=[0]))),
        "more_layers": write(root / "more", config(), safetensors(tensors(layers=range(5)))),
        "lower_rank": write(root / "lower", config(8), safetensors(tensors(4))),
    }


@pytest.mark.live
def test_preflight_takes_what_loads_and_refuses_more_than_vllm_does(
    tmp_path: Path, vllm_python: Path
) -> None:
    good, bad, silent = taken(tmp_path), refused(tmp_path), accepted_silently(tmp_path)
    folders = {name: str(folder) for name, folder in (good | bad | silent).items()}
    done = subprocess.run(
        [str(vllm_python), "-c", LOADER, json.dumps(folders), json.dumps(MODULES)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    pairs = BASE.num_hidden_layers * len(MODULES)
    expected = {key: [4, pairs] for key in good} | {"patterned": [8, pairs], "chosen": [4, 2]}
    assert {name: found[name] for name in good} == expected
    assert all(isinstance(found[name], str) for name in bad), found
    assert all(isinstance(found[name], list) for name in silent), found
    for folder in (bad | silent).values():
        assert codes(folder)
