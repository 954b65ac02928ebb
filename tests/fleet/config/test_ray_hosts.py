"""Hosts of engine `ray`: what a node needs, what is refused, and that a node is one host."""

from pathlib import Path

import pytest

from fleet.history import History, settings_due
from runtime.project.load import load_project
from tests.fleet.config.test_hosts import DEVICES, declared, problems

CLUSTER = "engine: ray, cluster: http://127.0.0.1:8265, python: /opt/vllm/bin/python"
NODE = f"{CLUSTER}, node: 10.0.0.11, token: env:RAY_TOKEN, {DEVICES}"


def test_servers_of_a_node_listen_and_are_reached_at_its_address(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    host = declared(tmp_path, gpu1=f"{NODE}, store: {folder}")["gpu1"]
    assert (host.engine, host.cluster, host.token) == (
        "ray",
        "http://127.0.0.1:8265",
        "env:RAY_TOKEN",
    )
    assert (host.listens_on, host.reached_at, host.machine) == ("10.0.0.11",) * 3
    assert (host.python, host.store) == ("/opt/vllm/bin/python", str(folder))
    open_to_all = NODE.replace("token: env:RAY_TOKEN", "insecure: true")
    assert declared(tmp_path, gpu1=f"{open_to_all}, store: {folder}")["gpu1"].token == ""


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (NODE, "FC1209", "needs `store`"),
        (f"{NODE}, store: models", "FC1208", "not the absolute path"),
        (f"{NODE}, store: SHARED, address: 10.0.0.11", "FC1208", "on the address of their"),
        (f"{NODE}, store: SHARED, insecure: true", "FC1208", "and `token` names one"),
        (f"{NODE}, store: SHARED, paths: {{/a: /b}}", "FC1208", "no paths"),
        (f"{NODE}, store: SHARED, supervisor: systemd", "FC1208", "no `supervisor"),
        (f"{NODE}, store: /etc", "FC1285", "`/etc`"),
        (f"{NODE}, store: SHARED".replace(", token: env:RAY_TOKEN", ""), "FC1209", "open"),
        (
            f"{NODE}, store: SHARED".replace("env:RAY_TOKEN", "0123456789"),
            "FC1110",
            "version control",
        ),
        (f"{NODE}, store: SHARED".replace(" node: 10.0.0.11,", ""), "FC1209", "`node`"),
        (f"engine: ssh, address: box1, node: 10.0.0.11, {DEVICES}", "FC1208", "no node"),
        (f"engine: fake, port: 1, insecure: true, {DEVICES}", "FC1208", "no insecure"),
    ],
)
def test_a_node_that_lacks_or_contradicts_is_refused(
    tmp_path: Path, text: str, code: str, says: str
) -> None:
    found = problems(tmp_path, gpu1=text.replace("SHARED", str(tmp_path / "shared")))
    assert [problem for problem in found if problem.code == code and says in problem.detail]


def test_a_node_is_declared_once(tmp_path: Path) -> None:
    host = f"{NODE}, store: {tmp_path / 'shared'}"
    (problem,) = problems(tmp_path, gpu1=host, gpu2=f"{host}, port: 9100")
    assert problem.code == "FC1268"
    assert "10.0.0.11" in problem.detail


def test_a_plan_shows_cluster_node_and_token_as_what_it_will_contact(tmp_path: Path) -> None:
    declared(tmp_path, gpu1=f"{NODE}, store: {tmp_path / 'shared'}")
    settings = load_project(tmp_path, None, {}).fleet.settings
    acting = {change.path for change in settings_due(settings, History()) if change.acts}
    keys = ("cluster", "engine", "node", "python", "store", "token")
    assert {f"hosts.gpu1.{key}" for key in keys} <= acting
