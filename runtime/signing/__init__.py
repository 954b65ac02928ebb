"""Checks the signatures of versions: bundles of OpenSSF model signing, by declared keys."""
