"""Servers that run already become a fleet: nothing changes for their clients but the address."""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runtime.engines.vllm_api import takes_adapters
from runtime.json_client import JsonClient
from runtime.project.load import load_project
from tests.fleetctl.hand_started import answer, hand_started, listed
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project
from tests.ports import free_port

PAGE = Path(__file__).parents[3] / "docs" / "coming-from-vllm.md"
URL = "http://127.0.0.1:8000"
TODAY = ("acme-lora", "Globex_support-v3")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "agency", ())


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(stack: ExitStack, tmp_path: Path, *adapters: str, **more: str) -> str:
    return stack.enter_context(hand_started(tmp_path / "theirs", None, adapters, more))


def changes(project: Project) -> list[dict[str, Any]]:
    done = call(project, "plan", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["decisions"]["changes"]
    return found


def codes(done: Done) -> list[str]:
    return re.findall(r"\[(FC[0-9]{4})\]", done.stderr)


@pytest.mark.parametrize(
    "kind", ["fake", pytest.param("vllm", marks=[pytest.mark.live, pytest.mark.long])]
)
def test_the_commands_of_the_page_leave_clients_their_names_and_answers(
    request: pytest.FixtureRequest, tmp_path: Path, project: Project, kind: str
) -> None:
    python = request.getfixturevalue("vllm_python") if kind == "vllm" else None
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    lines = [line.split("#")[0] for line in blocks[0].splitlines()]
    with hand_started(tmp_path / "theirs", python, TODAY) as url:
        before, direct = asyncio.run(listed(url)), asyncio.run(answer(url, TODAY[0]))
        try:
            for line in lines:
                name, _, _, *words = shlex.split(line)
                assert name == "fleetctl"
                if words[0] == "plan":
                    verbs = {change["action"] for change in changes(project)}
                    assert verbs == {"create"}
                done = call(project, *(word.replace(URL, url) for word in words))
                assert done.returncode == 0, done.stderr
                if words[0] == "import":
                    _listen_elsewhere(project)
            gateway = _gateway(project)
            key = (project.root / ".fleetctl/keys/acme-today").read_text("utf-8").strip()
            assert asyncio.run(answer(gateway, TODAY[0], key)) == direct
            key = (project.root / ".fleetctl/keys/globex-today").read_text("utf-8").strip()
            assert asyncio.run(answer(gateway, TODAY[1], key))["model"] == TODAY[1]
            assert call(project, "plan", "--detailed-exitcode").returncode == 0
        finally:
            call(project, "gateway", "stop")
        after = asyncio.run(listed(url))
        assert after.items() >= before.items()
        assert asyncio.run(answer(url, TODAY[0])) == direct


def _listen_elsewhere(project: Project) -> None:
    file = project.root / "fleet.yaml"
    text = file.read_text("utf-8").replace("127.0.0.1:8080", f"127.0.0.1:{free_port()}")
    file.write_text(text, encoding="utf-8")


def _gateway(project: Project) -> str:
    text = (project.root / "fleet.yaml").read_text("utf-8")
    (address,) = re.findall(r'listen: "(.*?)"', text)
    return f"http://{address}"


def test_what_no_server_tells_is_a_question_and_nothing_is_overwritten(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    url = started(servers, tmp_path, *TODAY)
    done = call(project, "import", url)
    assert done.returncode == 0, done.stderr
    text = (project.root / "clients/globex.yaml").read_text("utf-8")
    assert 'version: "3.0.0"' in text
    assert 'alias_for: "Globex_support-v3"' in text
    for file, asked in (("fleet.yaml", "--max-lora-rank"), ("clients/acme.yaml", "monthly_fee")):
        lines = (project.root / file).read_text("utf-8").splitlines()
        assert any("QUESTION" in line and asked in line for line in lines), file
    assert "QUESTION" in done.stderr
    assert "No golden set judges new versions ahead of clients:\n    " in done.stderr
    assert "golden: golden/support.jsonl" in text
    assert "the base itself (`tiny`)" in done.stderr
    again = call(project, "import", url)
    assert (again.returncode, codes(again)) == (1, ["FC6031"])
    more = started(servers, tmp_path, TODAY[1])
    same = call(project, "import", more)
    assert same.returncode == 0, same.stderr
    assert "`globex-support` is it already" in same.stderr
    assert (project.root / "clients/globex.yaml").read_text("utf-8") == text


HOSTILE = ("${env:HOME}", 'a"\n    keys: {x: "env:HOME"}\n#', "# QUESTION", "*x", "\x1b[31m")


def test_names_of_a_hostile_server_are_texts_and_nothing_else(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    url = started(servers, tmp_path, *HOSTILE)
    done = call(project, "import", url)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr
    read = load_project(project.root, None, {}).declarations
    adapters = [its for client in read.clients.values() for its in client.adapters.values()]
    assert {adapter.alias_for for adapter in adapters} == {*HOSTILE}
    assert {key for client in read.clients.values() for key in client.keys} == {"today"}


def test_a_name_that_is_served_twice_becomes_replicas(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    urls = [started(servers, tmp_path, "acme-lora") for _ in range(2)]
    assert call(project, "import", *urls).returncode == 0
    assert "replicas: 2" in (project.root / "clients/acme.yaml").read_text("utf-8")
    assert len([change for change in changes(project) if "adapter/" in change["address"]]) == 2


def test_each_server_that_cannot_be_imported_is_named_with_the_reason(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    keyed = started(servers, tmp_path, VLLM_API_KEY="secret")
    gone = f"http://127.0.0.1:{free_port()}"
    done = call(project, "import", keyed, gone)
    assert (done.returncode, codes(done)) == (1, ["FC6097", "FC4001"])
    assert keyed in done.stderr.replace("\n", " ")
    assert call(project, "import", "http://user:secret@127.0.0.1:1").returncode == 1
    assert codes(call(project, "import", "http://10.255.0.9:8000")) == ["FC1270"]
    assert not project.root.exists()


def test_a_gateway_is_not_taken_for_a_server(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    url = started(servers, tmp_path, "acme-lora")
    assert call(project, "import", url).returncode == 0
    _listen_elsewhere(project)
    try:
        assert call(project, "gateway", "start").returncode == 0
        other = Project(tmp_path / "other", ())
        assert codes(call(other, "import", _gateway(project))) == ["FC6097"]
    finally:
        call(project, "gateway", "stop")


def test_a_server_that_loads_no_adapters_is_refused_before_an_apply_begins(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    url = started(servers, tmp_path, *TODAY)
    assert call(project, "import", url).returncode == 0
    closed = started(servers, tmp_path, VLLM_ALLOW_RUNTIME_LORA_UPDATING="0")
    file = project.root / "fleet.yaml"
    file.write_text(file.read_text("utf-8").replace(url, closed), encoding="utf-8")
    assert call(project, "key", "create", "--all").returncode == 0
    shown = call(project, "plan").stdout
    assert "an apply is refused" in shown
    assert "loads no adapters at run time" in shown
    assert "slots are not visible" in shown
    done = call(project, "apply", "--auto", "--yes")
    assert (done.returncode, codes(done)) == (1, ["FC4037"])
    assert asyncio.run(listed(closed)) == {}
    assert call(project, "apply", "--auto", "--yes").returncode == 1
    assert "FC4037" not in call(project, "history").stdout


def test_fewer_slots_than_declared_are_refused_and_unknown_slots_are_not(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    url = started(servers, tmp_path, "acme-lora")
    assert call(project, "import", url).returncode == 0
    assert call(project, "key", "create", "--all").returncode == 0
    file = project.root / "fleet.yaml"
    text = re.sub(r"max_loras: .*", "max_loras: 7", file.read_text("utf-8"))
    file.write_text(text, encoding="utf-8")
    assert "slots are not visible" in call(project, "plan").stdout
    asyncio.run(answer(url, "acme-lora"))
    assert "has 6 slots, and 7 are declared" in call(project, "plan").stdout
    assert codes(call(project, "apply", "--auto", "--yes")) == ["FC4037"]
    file.write_text(text.replace("max_loras: 7", "max_loras: 6"), encoding="utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 0


def test_looking_whether_a_server_loads_adapters_loads_none(
    tmp_path: Path, servers: ExitStack
) -> None:
    url = started(servers, tmp_path, "acme-lora")

    async def seen() -> bool | None:
        async with JsonClient(url) as http:
            return await takes_adapters(http)

    assert asyncio.run(seen()) is True
    assert [*asyncio.run(listed(url))] == ["acme-lora"]


LITELLM = """\
model_list:
  - model_name: acme-chat
    litellm_params: {{model: hosted_vllm/acme-lora, api_base: "{url}/v1", api_key: none}}
  - model_name: gpt
    litellm_params: {{model: openai/gpt-4o, api_key: os.environ/OPENAI_KEY}}
router_settings: {{routing_strategy: simple-shuffle}}
"""


def test_a_proxy_of_litellm_gives_the_names_that_clients_ask_for(
    tmp_path: Path, project: Project, servers: ExitStack
) -> None:
    url = started(servers, tmp_path, *TODAY)
    asyncio.run(answer(url, TODAY[0]))  # so that the server tells its slots
    file = tmp_path / "config.yaml"
    file.write_text(LITELLM.format(url=url), encoding="utf-8")
    done = call(project, "import", "--litellm", str(file))
    assert done.returncode == 0, done.stderr
    written = (project.root / "clients/acme.yaml").read_text("utf-8")
    assert ('alias_for: "acme-chat"' in written, 'served_as: "acme-lora"' in written) == (
        True,
        True,
    )
    assert not (project.root / "clients/globex.yaml").exists()
    for left in ("`gpt`", "`router_settings`", "`Globex_support-v3`"):
        assert left in done.stderr
    assert {change["action"] for change in changes(project)} == {"create"}
    assert "is what clients of acme-chat ask the server itself for" in call(project, "plan").stdout
