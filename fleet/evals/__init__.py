"""Evaluations: what a golden set is, how an answer is scored, and what a run of it is worth.

Pure. Asking the models is in `runtime/evals`; judging one version against another from the
scores made here is the gates' business.
"""
