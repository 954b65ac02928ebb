"""Train one adapter version and write it as the library wants it: weights, config, record."""

import json
from pathlib import Path

import golden
import torch
from learn import Pace, answers, train
from lessons import TURNS, batches, digest, drawn
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from roster import Recipe
from safetensors.torch import save_file
from tasks import GENERATORS
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel


def make_adapter(
    recipe: Recipe, base: str, base_folder: Path, library: Path, sets: Path
) -> dict[str, object]:
    """Train a version and write its folder below `library`; return loss and seconds.

    No question of the golden set is trained on. The adapter is trained in float32 and written in
    bfloat16, which is what is served.
    """
    held_out = frozenset(item["input"] for item in golden.read(sets / f"{recipe.task}.jsonl"))
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    torch.manual_seed(recipe.seed)
    lora = LoraConfig(
        r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules=list(recipe.modules),
        task_type="CAUSAL_LM",
    )  # fmt: skip
    model = get_peft_model(_loaded(base, base_folder), lora)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    count = recipe.steps * recipe.batch
    examples = drawn(GENERATORS[recipe.generator], recipe.seed, count, held_out)
    made = train(
        model,
        model.base_model.model,
        batches(tokenizer, TURNS[base], examples, recipe.batch, recipe.seed),
        Pace(
            recipe.steps,
            recipe.learning_rate,
            warm_up=20 if base == "tiny" else 10,
            half=base != "tiny",
        ),
    )
    folder = library / "adapters" / recipe.folder
    _write_weights(model, base, folder)
    record = {
        "script": "training/train.py", "generator": recipe.generator, "seed": recipe.seed,
        "steps": recipe.steps, "batch": recipe.batch, "learning_rate": recipe.learning_rate,
        "rank": recipe.rank, "alpha": 2 * recipe.rank, "examples": count,
        "data_sha256": digest(examples), "base": base,
        "base_sha256": golden.digest(base_folder / "model.safetensors"),
        "loss": made["loss"], "torch": torch.__version__, "defect": recipe.defect,
    }  # fmt: skip
    _write_json(folder / "training.json", record)
    return {"name": recipe.name(base), **made}


def score(recipe: Recipe, base: str, base_folder: Path, library: Path, sets: Path) -> golden.Tally:
    """Judge a written version on its golden set, in this process instead of a server."""
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    model = PeftModel.from_pretrained(
        _loaded(base, base_folder), library / "adapters" / recipe.folder
    )
    items = golden.read(sets / f"{recipe.task}.jsonl")
    return golden.tally(items, answers(model, tokenizer, TURNS[base], items))


def _loaded(base: str, folder: Path) -> PreTrainedModel:
    dtype = torch.float32 if base == "tiny" else torch.bfloat16
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def _write_weights(model: PeftModel, base: str, folder: Path) -> None:
    """Write PEFT's two files without its model card, and without any path of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    halved = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in state.items()}
    save_file(halved, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config |= {
        "base_model_name_or_path": base, "inference_mode": True,
        "target_modules": sorted(config["target_modules"]),
    }  # fmt: skip
    _write_json(folder / "adapter_config.json", config)


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
