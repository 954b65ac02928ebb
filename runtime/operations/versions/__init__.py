"""Versions of adapters: added, signed, evaluated, trained anew, and the evidence on them."""
