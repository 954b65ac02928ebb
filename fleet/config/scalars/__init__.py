"""Reads scalars: a type reads its YAML form, or raises an error that shows the right form.

The type of the error is a code of `fleet/codes.py`.
"""
