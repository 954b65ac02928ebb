"""Serves the dashboard: facts of the fleet by scope, pages over HTTP, access, writes by click.

The top layer, above `operations`. Renderers are handed in, so that nothing here imports `plans`.
"""
