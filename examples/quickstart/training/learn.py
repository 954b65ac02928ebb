"""The training loop, and answers from a model in memory."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from golden import Item
from lessons import IGNORED, Turn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

HELD = 0.4
"""Share of the steps at the full learning rate; after it the rate falls to nearly nothing."""
FLOOR = 0.02
REPORT_EVERY = 100


@dataclass(frozen=True, slots=True)
class Pace:
    """Steps and rates of a training; `muon` is the rate for matrices, 0 where AdamW does all."""

    steps: int
    learning_rate: float
    warm_up: int
    muon: float = 0.0
    half: bool = False
    """Compute in bfloat16, for a base that is too big for float32 to be quick."""


def train(
    model: torch.nn.Module,
    causal: PreTrainedModel,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    pace: Pace,
) -> dict[str, float]:
    """Train what is trainable in `model`; return the last loss and the seconds it took.

    `causal` is the language model inside `model` (the same object when nothing wraps it). The
    head runs only where a label stands, which saves most of the vocabulary's arithmetic.
    """
    optimizers = _optimizers(model, pace)
    trainable = [p for p in model.parameters() if p.requires_grad]
    started, losses = time.monotonic(), []
    model.train()
    for step, (inputs, labels) in zip(range(pace.steps), batches, strict=True):
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * _rate(step, pace)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=pace.half):
            hidden = causal.model(input_ids=inputs).last_hidden_state[:, :-1]
            targets = labels[:, 1:]
            told = targets != IGNORED
            logits = causal.lm_head(hidden[told]).float()
            loss = torch.nn.functional.cross_entropy(logits, targets[told])
        for optimizer, _ in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        losses.append(loss.item())
        if (step + 1) % REPORT_EVERY == 0:
            print(f"  step {step + 1} loss {_last(losses):.3f}", flush=True)
    return {"loss": round(_last(losses), 4), "seconds": round(time.monotonic() - started, 1)}


@torch.no_grad()
def answers(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    turn: Turn,
    items: list[Item],
    longest: int = 64,
) -> list[str]:
    """Answer a golden set greedily, fifty questions at a time, padded on the left by hand."""
    model.eval()
    raw, end = tokenizer.backend_tokenizer, tokenizer.convert_tokens_to_ids(turn.after)
    said = []
    for start in range(0, len(items), 50):
        asked = [turn.question(item["input"]) for item in items[start : start + 50]]
        rows = [encoding.ids for encoding in raw.encode_batch(asked, add_special_tokens=False)]
        width = max(len(row) for row in rows)
        ids = torch.tensor([[end] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=longest, do_sample=False,
            pad_token_id=end, eos_token_id=end,
        )  # fmt: skip
        said += [tokenizer.decode(row[width:], skip_special_tokens=True) for row in out]
    return said


def _optimizers(model: torch.nn.Module, pace: Pace) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return Muon for the inner matrices where asked for, AdamW for the rest, and their rates."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    inner = [
        p for n, p in named if pace.muon and p.ndim == 2 and "embed" not in n and "lm_head" not in n
    ]
    chosen = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in chosen]
    adam = torch.optim.AdamW(rest, lr=pace.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    made: list[tuple[torch.optim.Optimizer, float]] = [(adam, pace.learning_rate)]
    if inner:
        muon = torch.optim.Muon(inner, lr=pace.muon, momentum=0.95, weight_decay=0.01)
        made.append((muon, pace.muon))
    return made


def _rate(step: int, pace: Pace) -> float:
    warm = min(1.0, (step + 1) / pace.warm_up)
    return warm * max(FLOOR, min(1.0, (1 - step / pace.steps) / (1 - HELD)))


def _last(losses: list[float]) -> float:
    recent = losses[-20:]
    return sum(recent) / len(recent)
