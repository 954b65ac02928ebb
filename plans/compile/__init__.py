"""Compile a fleet for other programs: Envoy, LiteLLM, supervisors of servers."""
