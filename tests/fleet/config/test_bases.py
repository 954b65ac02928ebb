"""Bases whose declarations and config.json disagree."""

from pathlib import Path

import pytest

from fleet.errors import Diagnostic
from runtime.project.load import load_project
from tests.broken.project import FLEET, valid, write


@pytest.mark.parametrize(("tokens", "remedies"), [(512, []), (513, ["Write at most 512."])])
def test_more_tokens_than_the_base_has_positions_are_told(
    tmp_path: Path, tokens: int, remedies: list[str]
) -> None:
    text = FLEET.replace("    dtype:", f"    max_model_len: {tokens}\n    dtype:")
    write(tmp_path, valid() | {"fleet.yaml": text})
    found: list[Diagnostic] = [*load_project(tmp_path, None, {}).warnings]
    assert [each.hint for each in found if each.code == "FC1256"] == remedies
