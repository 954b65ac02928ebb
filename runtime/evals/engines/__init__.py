"""Eval engines, a file per engine: `runtime.evals.evaluate` names them."""
