"""Formats for other programs: no declared text ends a label, a value, an element or a line."""

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from fleet.errors import ConfigError
from fleet.resources import Route, Share
from plans.compile import litellm
from plans.drawing import DRAWINGS, Drawing
from plans.drawing.content import HostRow
from plans.visible import prose
from runtime.gateway.traffic.accounting import UsageCounters, exposition
from runtime.project import declaration_files
from tests.attacks.conftest import call

TEXTS = (
    'a"} 1\nfleetctl_evil{x="', "a\\", 'a\\"', "a\nb", "a\r\nb", "# HELP x y", "a{b}", "a,b=c",
    "</title><script>x</script>", "]]>", "<!--", "&lt;&amp;", "'\"><img src=x>", "${jndi}",
    "os.environ/AWS_SECRET_ACCESS_KEY", "a: b", "- a", "*a", "!!python/object", "a\tb", "\u2028",
    "\x1b[2J", "a\x00b", "\ufffe", "%(a)s", "{{ a }}", "=1+1", "@team",
)  # fmt: skip
_SAMPLE = re.compile(r'[a-z_]+(?:\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? [0-9.e+-]+')


@pytest.mark.parametrize("text", TEXTS)
def test_no_name_ends_a_label_of_prometheus(text: str) -> None:
    counters = UsageCounters(others=Counter({("gate", 200): 1}))
    split: list[dict[str, object]] = [
        {"alias": text, "adapter": text, "percent": 10, "requests": 1}
    ]
    shown = exposition(counters, {(text, text): 1}, split, {text: True}, 0)
    plain = exposition(counters, {("a", "a"): 1}, [split[0] | {"alias": "a"}], {"a": True}, 0)
    assert shown.count("\n") == plain.count("\n")
    for line in shown.removesuffix("\n").split("\n"):
        assert line.startswith(("# HELP fleetctl_", "# TYPE fleetctl_")) or _SAMPLE.fullmatch(line)


@pytest.mark.parametrize("text", TEXTS)
def test_no_name_leaves_its_value_in_the_configuration_of_litellm(text: str) -> None:
    route = Route(text, (Share(text, 100, (text,)),), "salt")
    made = json.loads(litellm.config({text: route}, {text: "http://127.0.0.1:1"}))
    (deployment,) = made["model_list"]
    assert set(made) == {"model_list", "router_settings", "general_settings"}
    assert deployment["litellm_params"]["api_key"] == "none"
    assert deployment["litellm_params"]["model"] == f"hosted_vllm/{text}"


@pytest.mark.parametrize("text", TEXTS)
def test_no_name_leaves_its_element_in_a_drawing(text: str) -> None:
    drawn = Drawing(text, (HostRow(text, (), (text,), (text,)),))
    plain = Drawing("a", (HostRow("a", (), ("a",), ("a",)),))
    kinds = [
        [element.tag for element in ET.fromstring(DRAWINGS["svg"](each)).iter()]  # noqa: S314 (our own)
        for each in (drawn, plain)
    ]
    assert set(kinds[0]) == set(kinds[1])
    assert not re.search(r"<(script|img)", DRAWINGS["html"](drawn))


@pytest.mark.parametrize("text", ["1a2b3c4", "deadbeef", "0f" * 20, "see 1a2b3c4 now", "A1B2C3D4"])
def test_prose_links_no_commit(text: str) -> None:
    assert not re.search(r"(?i)(?<!`)\b[0-9a-f]{7,40}\b", prose(text))


def test_a_project_of_too_many_files_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (project / name).touch()
    monkeypatch.setattr(declaration_files, "_MOST_ENTRIES", 3)
    with pytest.raises(ConfigError, match="holds over 3"):
        declaration_files.declaration_files(project)


@pytest.mark.parametrize("error", [RecursionError, MemoryError])
def test_an_input_beyond_memory_or_depth_ends_with_an_error_of_ours(
    error: type[Exception], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("fleetctl.wiring.open_workspace", fail)
    done = call(project, "validate")
    assert done.code == 1
    assert "FC1310" in done.text
