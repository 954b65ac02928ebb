"""Explain a resource, a rollout or a placement that fails: labelled facts."""
