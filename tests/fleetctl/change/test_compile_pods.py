"""`fleetctl compile` for a cluster of Kubernetes."""

from pathlib import Path

import pytest
import yaml

from fleet.errors import FleetError
from runtime.gateway.admin.state_dir import write_table
from tests.fleetctl.change.test_compile_command import fleetctl, project
from tests.runtime.gateway.stage import OLD, table

__all__ = ["project"]


def test_a_cluster_gets_files_that_declare_nothing_in_the_project(project: Path) -> None:
    pods = ("compile", "--target", "kubernetes", "--out", str(project))
    with pytest.raises(FleetError, match="declares no image") as refused:
        fleetctl(project, *pods)
    assert refused.value.diagnostics[0].code == "FC1298"
    done = fleetctl(project, *pods, "--image", "a.io/vllm:1")
    assert "Note: never applied to a cluster by us" in done.stderr
    assert "kubectl label node NODE fleetctl.dev/host=HOST" in done.stderr
    done = fleetctl(project, "compile", "--target", "gateway-api", "--out", str(project))
    assert "no apply has written routes" in done.stderr
    assert "Clients are NOT kept apart" in done.stderr
    written = {name: (project / name).read_bytes() for name in ("servers.yaml", "routes.yaml")}
    for command in ("validate", "fmt"):
        assert fleetctl(project, command).exit_code == 0
    assert {name: (project / name).read_bytes() for name in written} == written
    (claim, *_), (pool, _, route) = (list(yaml.safe_load_all(text)) for text in written.values())
    assert claim["kind"] == "PersistentVolumeClaim"
    assert pool["metadata"]["name"] == "tiny-laptop-cpu0"
    assert route["metadata"]["name"] == "acme-support"
    (project / "routes.yaml").write_text("tiers: {gold: {}}\n", encoding="utf-8")  # somebody's own
    with pytest.raises(FleetError, match="did not write it"):
        fleetctl(project, "compile", "--target", "gateway-api", "--out", str(project))


def test_the_stage_of_a_rollout_is_in_the_routes_of_a_cluster(project: Path) -> None:
    write_table(project / ".fleetctl", table({"s1": "http://127.0.0.1:1"}))
    done = fleetctl(project, "compile", "--target", "gateway-api")
    documents = {found["kind"]: found for found in yaml.safe_load_all(done.stdout)}
    assert documents["InferencePool"]["metadata"]["name"] == "s1"
    assert documents["InferenceModelRewrite"]["spec"]["rules"][0]["targets"][0] == {
        "modelRewrite": OLD,
        "weight": 1,
    }
    assert "no apply has written routes" not in done.stderr
