"""Evaluations: golden sets asked of a served version, scored, kept, compared in pairs."""

from runtime.evals.context import EvalContext
from runtime.evals.engines import ENGINES
from runtime.evals.evaluate import evaluate, evaluate_pair, required
from runtime.evals.record import record
from runtime.evals.store import EvalStore

__all__ = ["ENGINES", "EvalContext", "EvalStore", "evaluate", "evaluate_pair", "record", "required"]
