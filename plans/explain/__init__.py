"""Explain a resource, a rollout or a placement that fails: facts, each with a label."""
