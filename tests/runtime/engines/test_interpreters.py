"""Interpreters of servers, compared with the declared one."""

import pytest

from runtime.engines.observation import is_interpreter


@pytest.mark.parametrize(
    ("path", "declared", "same"),
    [
        ("/checkouts/a/.venv/bin/python", ".venv/bin/python", True),
        ("/checkouts/b/.venv/bin/python", ".venv/bin/python", True),
        ("/checkouts/.venv/bin/python", "../../.venv/bin/python", True),
        ("/checkouts/a/.venv-33/bin/python", ".venv/bin/python", False),
        ("/opt/vllm/bin/python", "/opt/vllm/bin/python", True),
        ("/srv/opt/vllm/bin/python", "/opt/vllm/bin/python", False),
        ("python3", "python3", True),
        ("/usr/bin/python3", "python3", True),
    ],
)
def test_the_folder_of_the_project_does_not_count(path: str, declared: str, *, same: bool) -> None:
    assert is_interpreter(path, declared) is same
