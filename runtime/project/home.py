"""Reads where the truth of a fleet lives, whatever else the files declare."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from fleet.codes import diagnostic
from fleet.config import StateHome
from fleet.errors import ConfigError
from runtime.confined import confined
from runtime.files import read_plain
from runtime.project.declaration_files import MAIN
from runtime.project.facts import decode
from runtime.project.load import overlay_file, read_tree
from runtime.state.home import HomeAddress


def declared_home(
    root: Path,
    environment: str | None,
    variables: Mapping[str, str],
    values: Mapping[str, str] = os.environ,
) -> HomeAddress:
    """Return the declared home, from `fleet.yaml` and the overlay alone.

    `values`: values of `${env:NAME}`.

    Raises:
        ConfigError: these cannot be read, or declare no home that can be used.
        OSError: as above.
    """
    names = filter(None, (MAIN, overlay_file(environment)))
    texts = {name: decode(read_plain(confined(root, name)), name) for name in names}
    value = read_tree(texts, environment, variables, values=values).value
    try:
        declared = StateHome.model_validate(value.get("state") or {})
    except ValidationError:
        raise ConfigError(diagnostic("FC1235", "`state` is not one.")) from None
    folder = str(confined(root, declared.file)) if declared.file else ""
    name, key = str(value.get("fleet", "")), declared.evidence_key or ""
    return HomeAddress(name, declared.postgresql or "", folder, key)
