"""Training examples: drawn from a seed, digested, and cut into batches.

All examples of a training are drawn before it starts; the digest over their JSON lines is what
`training.json` records, so that "trained on the same data" can be checked without keeping the data.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from tasks import Example, Generator
from transformers import PreTrainedTokenizerBase

IGNORED = -100
POOL = 16


@dataclass(frozen=True, slots=True)
class Turn:
    """How a question and its answer are framed: the base's chat template, spelled out."""

    before: str
    between: str
    after: str

    def question(self, text: str) -> str:
        """Return the prompt: all that the model sees before it answers."""
        return self.before + text + self.between


TURNS = {
    "tiny": Turn("<|user|>", "<|assistant|>", "<|end|>"),
    "smollm2": Turn("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
}


def drawn(
    generator: Generator, seed: int, count: int, without: frozenset[str] = frozenset()
) -> list[Example]:
    """Draw `count` training examples, none of which asks what `without` holds."""
    r, kept = Random(seed), list[Example]()
    while len(kept) < count:
        example = generator(r)
        if example.input not in without:
            kept.append(example)
    return kept


def digest(examples: list[Example]) -> str:
    """Return the SHA-256 over the examples as JSON lines, in hexadecimal."""
    sha = hashlib.sha256()
    for example in examples:
        line = {"input": example.input, "expected": example.expected}
        sha.update((json.dumps(line, ensure_ascii=False) + "\n").encode())
    return sha.hexdigest()


def batches(
    tokenizer: PreTrainedTokenizerBase, turn: Turn, examples: list[Example], size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield inputs and labels; only answer tokens carry a label.

    Pools of examples are sorted by length, so that a batch carries almost no padding. The raw
    tokenizer is used and its padding switched off: padding left on by an earlier call would shift
    every label, silently.
    """
    raw = tokenizer.backend_tokenizer
    raw.no_padding()
    raw.no_truncation()
    r = Random(seed)
    for start in range(0, len(examples), size * POOL):
        pool = examples[start : start + size * POOL]
        asked = [turn.question(e.input) for e in pool]
        prompts = raw.encode_batch(asked, add_special_tokens=False)
        wholes = raw.encode_batch(
            [q + e.expected + turn.after for q, e in zip(asked, pool, strict=True)],
            add_special_tokens=False,
        )
        by_length = sorted(range(len(pool)), key=lambda i: len(wholes[i].ids))
        cuts = [by_length[i : i + size] for i in range(0, len(pool), size)]
        r.shuffle(cuts)
        for cut in cuts:
            yield _padded([wholes[i].ids for i in cut], [len(prompts[i].ids) for i in cut])


def _padded(rows: list[list[int]], prompts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(row) for row in rows)
    inputs = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED)
    for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        inputs[i, : len(row)] = torch.tensor(row)
        labels[i, prompt : len(row)] = torch.tensor(row[prompt:])
    return inputs, labels
