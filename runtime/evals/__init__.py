"""Evaluations: golden sets asked of a served version, scored, kept, compared in pairs."""

from runtime.evals.evaluate import evaluate, evaluate_pair, required
from runtime.evals.office import Office
from runtime.evals.record import record
from runtime.evals.registry import ENGINES
from runtime.evals.store import EvalStore

__all__ = ["ENGINES", "EvalStore", "Office", "evaluate", "evaluate_pair", "record", "required"]
