"""A client whose declarations are broken is set aside by name, and the others go on."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project

GO_ON = "--without-broken"
WHY = "Version is not quoted [FC1103] at clients/birch.yaml:10:18"
FIRST = f"SET ASIDE, and left as it is live: birch: {WHY}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet, applied and served; a stage of a rollout bakes for a moment."""
    made = Project.copy(tmp_path / "project", None)
    edit(made, "fleet.yaml", "bake: 24h, retain: 7d", "bake: 1s, retain: 7d")
    for words in ("gateway start", "apply --auto --yes"):
        done = call(made, *words.split())
        assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()


def edit(project: Project, name: str, old: str, new: str) -> None:
    text = (project.root / name).read_text("utf-8")
    assert old in text
    (project.root / name).write_text(text.replace(old, new, 1), "utf-8")


def slip(project: Project) -> None:
    """A version that is no text in the file of birch, and a new version of acme."""
    edit(project, "clients/birch.yaml", '"1.0.0"', "1.0")
    edit(project, "clients/acme.yaml", '"2.1.0"', '"2.2.0"')


def shares(project: Project) -> dict[str, dict[str, int]]:
    document = json.loads(call(project, "status", "--format", "json").stdout)
    return {
        row["alias"]: {its["adapter"][-5:]: its["percent"] for its in row["versions"]}
        for row in document["aliases"]
    }


def answer(project: Project, client: str, alias: str) -> int:
    secret = (project.root / f".fleetctl/keys/{client}-prod").read_text().strip()
    listen = re.search(r'listen: "(.+?)"', (project.root / "fleet.yaml").read_text())
    assert listen is not None
    body = {"model": alias, "messages": [{"role": "user", "content": "hello"}]}
    head = {"Authorization": f"Bearer {secret}"}
    asked = f"http://{listen[1]}/v1/chat/completions"
    return httpx.post(asked, json=body, headers=head, timeout=60).status_code


def test_the_first_line_says_who_and_why_in_every_format(project: Project) -> None:
    slip(project)
    for words in (["plan"], ["apply", "--auto", "--yes"], ["validate"]):
        assert call(project, *words).returncode == 1
    text = call(project, "plan", GO_ON)
    assert (text.returncode, text.stdout.splitlines()[0]) == (4, FIRST)
    assert call(project, "plan", GO_ON, "--detailed-exitcode").returncode == 4
    assert call(project, "validate").returncode == 1
    marked = call(project, "plan", GO_ON, "--format", "md").stdout.splitlines()
    assert marked[1].startswith("> **SET ASIDE, and left as it is live: birch: Version is not")
    page = call(project, "plan", GO_ON, "--format", "html").stdout
    assert page.index(FIRST) < page.index("acme-support")
    document = json.loads(call(project, "plan", GO_ON, "--format", "json").stdout)
    assert document["decisions"]["set_aside"] == [f"birch: {WHY}"]
    assert {c["address"] for c in document["decisions"]["changes"]} == {
        "adapter/acme-support-tiny-v2.2.0@tiny-laptop-cpu0", "route/acme-support",
    }  # fmt: skip


def told(project: Project, *words: str) -> str:
    done = call(project, *words)
    assert done.returncode == 1
    return " ".join(done.stderr.split())


def test_the_error_of_one_clients_mistake_names_the_way_on(project: Project) -> None:
    """Before, the error of `plan` and `apply` named no way on: 7 clients waited for one."""
    plan, apply = ["plan"], ["apply", "--auto", "--yes"]
    way = "`--without-broken` leaves birch as live, and the others go on."
    slip(project)
    for words in (plan, apply):
        assert told(project, *words).count(way) == 1
    assert way in " ".join(call(project, "plan", "--format", "md").stdout.split())
    edit(project, "clients/birch.yaml", " 1.0", ' "1.0.0"\n        replicas: 9')
    for words in (plan, apply):
        assert told(project, *words).count(way) == 1
    edit(project, "fleet.yaml", "  premium:", "  premum:")  # of several clients: no way on
    for words in (plan, apply, [*plan, GO_ON]):
        assert "without-broken" not in told(project, *words)


@pytest.mark.parametrize(
    "text", ["", "# birch\n", "clients:\n", "clients: {}\n", "clients:\n  # b:\n"]
)
def test_a_client_file_without_content_removes_no_client(project: Project, text: str) -> None:
    """Before, the last 3 of 5 removed birch: a yellow plan, also with `--without-broken`."""
    (project.root / "clients/birch.yaml").write_text(text, "utf-8")
    assert "Empty file [FC1005] at clients/birch.yaml:1:1" in told(project, "plan")
    aside = call(project, "plan", GO_ON)
    assert (aside.returncode, "birch-units" in aside.stdout) == (4, False), aside.stdout
    assert aside.stdout.startswith("SET ASIDE, and left as it is live: birch: Empty file [FC1005]")


def test_the_first_line_says_that_a_shared_server_restarts_under_the_client(
    project: Project,
) -> None:
    """Before, "left as it is live" stood above an outage of 91 seconds of birch."""
    slip(project)
    edit(project, "fleet.yaml", "kv_cache: 64MiB", "kv_cache: 128MiB")
    aside = call(project, "plan", GO_ON)
    assert aside.stdout.startswith(
        f"SET ASIDE, and left as it is live (a server of birch restarts): birch: {WHY}"
    ), aside.stdout
    assert "birch-units" in aside.stdout


def test_a_golden_set_that_two_clients_share_sets_both_aside(project: Project) -> None:
    """Before, 0 of 2 were set aside, with exit 0 and no word."""
    edit(project, "clients/birch.yaml", "golden/units.jsonl", "golden/reviews.jsonl")
    with (project.root / "golden/reviews.jsonl").open("a") as golden:
        golden.write("{\n")
    done = call(project, "plan", GO_ON)
    assert done.returncode == 4, done.stderr
    first = done.stdout.splitlines()[0]
    assert all(f"{client}: " in first for client in ("birch", "fjord")), first
    assert "golden/reviews.jsonl" in first


def test_a_folder_in_the_place_of_a_file_removes_no_client(project: Project) -> None:
    """Before, a folder named `birch.yaml` made a yellow plan without birch, and exit 0."""
    (project.root / "clients/birch.yaml").unlink()
    (project.root / "clients/birch.yaml").mkdir()
    told(project, "plan")
    aside = call(project, "plan", GO_ON)
    assert (aside.returncode, "birch-units" in aside.stdout) == (4, False), aside.stdout
    assert aside.stdout.startswith("SET ASIDE, and left as it is live: birch: "), aside.stdout


def test_a_saved_plan_sets_the_same_client_aside_and_birch_is_answered(project: Project) -> None:
    first = "prod: file:.fleetctl/keys/corvid-prod"
    second = first.replace("prod", "next")
    edit(project, "clients/corvid.yaml", first, f"{first}\n      {second}")
    assert call(project, "key", "create", "corvid/next").returncode == 0
    slip(project)
    file = str(project.root / "plan.json")
    assert call(project, "plan", GO_ON, "--out", file).returncode == 4
    done = call(project, "apply", file, "--yes")
    assert (done.returncode, f"Note: {FIRST}" in done.stderr) == (4, True), done.stderr
    now = shares(project)
    assert (now["acme-support"], now["birch-units"]) == ({"2.2.0": 10, "2.1.0": 90}, {"1.0.0": 100})
    assert answer(project, "birch", "birch-units") == 200
    again = call(project, "apply", "--auto", "--yes", GO_ON)
    assert again.returncode == 4
    edit(project, "clients/birch.yaml", "1.0", '"1.0.0"')
    sound = call(project, "plan")
    assert (sound.returncode, "SET ASIDE" in sound.stdout) == (0, False), sound.stdout
    assert "birch-units" not in sound.stdout


def test_a_round_promotes_the_others_and_the_rollout_of_the_client_stays(project: Project) -> None:
    for client, old in (("acme", "2.1.0"), ("birch", "1.0.0")):
        assert old in (project.root / f"clients/{client}.yaml").read_text()
    edit(project, "clients/acme.yaml", '"2.1.0"', '"2.2.0"')
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    edit(project, "clients/birch.yaml", '"1.0.0"', "1.0")
    for _ in range(200):
        done = call(project, "reconcile", "--once", GO_ON)
        assert (done.returncode, WHY in done.stderr) == (4, True), done.stderr
        if shares(project)["acme-support"] == {"2.2.0": 100, "2.1.0": 0}:
            break
    assert shares(project)["acme-support"] == {"2.2.0": 100, "2.1.0": 0}
    assert shares(project)["birch-units"] == {"1.0.0": 100}


def refused(project: Project, *words: str) -> Done:
    done = call(project, *words, GO_ON)
    assert (done.returncode, done.stdout) == (1, ""), done.stdout
    return done


def test_what_is_not_of_one_client_stops_everything(project: Project) -> None:
    slip(project)
    edit(project, "fleet.yaml", "  premium:", "  premum:")
    assert "No tier is called `premium`" in refused(project, "plan").stderr
    edit(project, "fleet.yaml", "  premum:", "  premium:")
    edit(project, "fleet.yaml", "fleet:", "fleet: [")
    assert "fleet.yaml" in refused(project, "plan").stderr
    assert "fleet.yaml" in refused(project, "apply", "--auto", "--yes").stderr


@pytest.mark.parametrize(("name", "old", "new", "why"), [
    ("clients/birch.yaml", "        version:", "        replicas: 9\n        version:", "FC2003"),
    ("golden/units.jsonl", '"expected"', '"expectd"', "FC1303"),
])  # fmt: skip
def test_places_and_golden_sets_may_be_broken_too(
    project: Project, name: str, old: str, new: str, why: str
) -> None:
    edit(project, "clients/acme.yaml", '"2.1.0"', '"2.2.0"')
    edit(project, name, old, new)
    done = call(project, "plan", GO_ON)
    assert done.returncode == 4, done.stderr
    assert re.match(rf"SET ASIDE.*: birch: .*\[{why}\] at {name}:\d+", done.stdout), done.stdout
    assert "route/acme-support" in done.stdout
