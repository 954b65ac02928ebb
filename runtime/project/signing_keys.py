"""Reads the keys that sign versions: for the facts of a fleet, and without a valid fleet."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from fleet.config import SigningKey
from fleet.errors import ConfigError
from fleet.policies import SigningKeySpec
from runtime.project.load import read_files, read_tree
from runtime.signing.keys import fingerprint, read_key


class TrustedKeys(NamedTuple):
    """The declared keys that can be read."""

    specs: tuple[SigningKeySpec, ...]
    pems: Mapping[str, bytes]
    """By fingerprint."""


def trusted_keys(root: Path, environment: str | None, variables: Mapping[str, str]) -> TrustedKeys:
    """Return the declared keys that can be read; `validate` reports the others.

    A fleet that names a version is valid once the lock has the version, so that only the entries
    of the keys are read.

    Raises:
        ConfigError: the declarations cannot be read.
    """
    declared = read_tree(read_files(root, environment), environment, variables).value
    found = declared.get("signatures")
    specs, pems = list[SigningKeySpec](), dict[str, bytes]()
    for name, its in sorted(found.items()) if isinstance(found, dict) else ():
        with suppress(ValidationError, ConfigError):
            key = SigningKey.model_validate(its, extra="ignore")
            pem = read_key(root, key.file)
            if pem and (known := fingerprint(pem)):
                specs.append(SigningKeySpec(str(name), known, key.until))
                pems[known] = pem
    return TrustedKeys(tuple(specs), pems)
