import subprocess
import sys

import pytest
from jinja2 import UndefinedError

from plans.templating import code, rendered


@pytest.mark.parametrize("template", ["notice_operators.txt.j2", "rollout.html.j2"])
def test_a_name_without_a_value_is_an_error(template: str) -> None:
    with pytest.raises(UndefinedError):
        rendered(template)


def test_yaml_is_not_escaped() -> None:
    assert "tier: a&b" in rendered("client.yaml.j2", name="acme", tier="a&b")


def test_a_plan_as_text_needs_no_jinja() -> None:
    code = "import sys, plans.render.text; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain & <b>", "plain &amp; &lt;b&gt;"),
        ("`a<b` and `c`", "<code>a&lt;b</code> and <code>c</code>"),
        ("no `end", "no `end"),
        ("", ""),
    ],
)
def test_words_between_backquotes_are_code(text: str, shown: str) -> None:
    assert code(text) == shown
