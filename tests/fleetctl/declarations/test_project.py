"""Reading a project: merge, overlay, placeholders, secrets, cache; and nothing else than Fleet
or ConfigError, whatever the files hold."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.codes import SUMMARIES
from fleet.errors import ConfigError
from fleet.hardware import BaseShape
from fleet.spec import ClientKey, FleetSpec
from plans.diagnostics import RENDERERS
from runtime.gateway.table.table import KeyEntry
from runtime.project.load import library_folder, load_project
from tests.broken.cases import CASES
from tests.broken.project import ACME, FLEET, valid, write


def test_a_valid_project_means_what_it_says(tmp_path: Path) -> None:
    write(tmp_path, valid())
    fleet = load_project(tmp_path, None, {}).fleet
    assert sorted(fleet.adapters) == ["acme-support", "acme-triage"]
    support = fleet.adapters["acme-support"]
    assert str(support.name) == "acme-support-tiny-v2.1.0"
    assert (support.rollout, support.replicas, support.latency) == (
        "careful",
        1,
        "short_generation",
    )
    assert support.demand is not None
    assert (support.demand.hours, support.demand.timezone) == ((9, 18), "Europe/Paris")
    assert fleet.rollouts["careful"].weights == (10, 50, 100)
    assert fleet.rollouts["careful"].bake == timedelta(hours=24)
    assert fleet.rollouts["standard"].retain == timedelta(days=7)
    assert fleet.gates["accuracy"].threshold == 3
    assert fleet.bases["tiny"].kv_cache_bytes == 64 * 2**20
    assert fleet.bases["tiny"].extra == (("enable-prefix-caching", ""),)
    assert fleet.hosts["laptop"].devices[0].port == 8100
    assert fleet.hosts["rented"].attached[0].url == "http://10.0.0.5:8000"
    assert fleet.versions["acme-support-tiny-v2.1.0"].rank == 16


def test_every_value_keeps_its_place(tmp_path: Path) -> None:
    write(tmp_path, valid() | {"env/prod.yaml": "tiers:\n  premium:\n    replicas: 2\n"})
    fleet = load_project(tmp_path, "prod", {}).fleet
    version = ("clients", "acme", "adapters", "support", "version")
    assert fleet.origin(*version) == "clients/acme.yaml:9:18"
    assert fleet.origin(*version[:-1]) == "clients/acme.yaml:7:7"
    assert fleet.origin(*version[:-1], "rollout") == "clients/acme.yaml:7:7"
    assert fleet.origin("tiers", "premium", "replicas") == "env/prod.yaml:3:15"
    assert fleet.origin("tiers", "premium", "retrain_every") == "fleet.yaml:5:41"
    assert fleet.adapters["acme-support"].replicas == 2
    assert str(fleet.origins[".".join(version)]) == "clients/acme.yaml:9:18"


def test_an_overlay_merges_maps_replaces_lists_and_deletes_with_null(tmp_path: Path) -> None:
    above = """\
rollouts: {careful: {weights: [25%, 100%], gates: null}}
gates: null
hosts: {rented: null, laptop: {engine: fake}}
clients: {beta: {adapters: {}}}
"""
    write(tmp_path, valid() | {"env/dev.yaml": above})
    fleet = load_project(tmp_path, "dev", {}).fleet
    assert fleet.rollouts["careful"].weights == (25, 100)
    assert fleet.rollouts["careful"].gates == ()
    assert fleet.rollouts["careful"].bake == timedelta(hours=24)
    assert (sorted(fleet.hosts), fleet.hosts["laptop"].engine) == (["laptop"], "fake")
    assert sorted(fleet.clients) == ["acme", "beta"]
    assert sorted(load_project(tmp_path, None, {}).fleet.hosts) == ["laptop", "rented"]


def test_placeholders_are_filled_and_may_be_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCTL_ZONE", "Asia/Tokyo")
    text = ACME.replace("3000", "${var.fee}").replace("Europe/Paris", '"${env:FLEETCTL_ZONE}"')
    text = text.replace("I was charged", "$${x} and ${var.fee}")
    write(tmp_path, valid() | {"clients/acme.yaml": text})
    fleet = load_project(tmp_path, None, {"fee": "12.5"}).fleet
    support = fleet.adapters["acme-support"]
    assert fleet.clients["acme"].monthly_fee == 12.5
    assert support.smoke[0] == "${x} and 12.5 twice for May."
    assert support.demand is not None
    assert support.demand.timezone == "Asia/Tokyo"


def test_keys_of_ones_own_begin_with_x(tmp_path: Path) -> None:
    text = FLEET.replace("fleet: demo", "fleet: demo\nx-note: {a: [1]}")
    acme = ACME.replace("    tier: premium", "    x-owner: team a\n    tier: premium")
    write(tmp_path, valid() | {"fleet.yaml": text, "clients/acme.yaml": acme})
    assert load_project(tmp_path, None, {}).fleet.clients["acme"].tier == "premium"


def test_an_empty_section_declares_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"fleet.yaml": "fleet: x\nclients:\n"})
    fleet = load_project(tmp_path, None, {}).fleet
    assert (fleet.name, dict(fleet.clients), sorted(fleet.tiers)) == ("x", {}, ["standard"])


def test_a_fingerprint_is_the_gateways_and_a_secret_is_stripped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ACME.replace(
        '{prod: "env:ACME_KEY"}', '{prod: "env:ACME_KEY", test: "file:k/t", gone: "file:k/no"}'
    )
    write(tmp_path, valid() | {"clients/acme.yaml": text, "k/t": " s3cret-b \n"})
    monkeypatch.setenv("ACME_KEY", "s3cret-a")

    def fingerprint(secret: str) -> str:
        sha256 = hashlib.sha256(secret.encode()).hexdigest()
        return KeyEntry(client="acme", name="x", reference="", sha256=sha256).fingerprint

    assert load_project(tmp_path, None, {}).fleet.clients["acme"].keys == (
        ClientKey("gone", "file:k/no", None),
        ClientKey("prod", "env:ACME_KEY", fingerprint("s3cret-a"), is_weak=True),
        ClientKey("test", "file:k/t", fingerprint("s3cret-b"), is_weak=True),
    )


def test_the_same_secret_behind_two_references_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ACME.replace('{prod: "env:ACME_KEY"}', '{prod: "env:ACME_KEY", test: "file:k"}')
    write(tmp_path, valid() | {"clients/acme.yaml": text, "k": "same\n"})
    monkeypatch.setenv("ACME_KEY", "same")
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, None, {})
    assert [each.code for each in caught.value.diagnostics] == ["FC1213"]


CONFIG = (
    '{"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 16,'
    ' "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}'
)


def test_a_bases_shape_comes_from_the_library(tmp_path: Path) -> None:
    pinned = valid()["fleet.lock"].replace("2097152", "5")
    write(tmp_path, valid() | {"models/base/tiny/config.json": CONFIG, "fleet.lock": pinned})
    header = b'{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}'
    weights = len(header).to_bytes(8, "little") + header + b"12345"
    (tmp_path / "models/base/tiny/model.safetensors").write_bytes(weights)
    assert load_project(tmp_path, None, {}).fleet.bases["tiny"].shape == BaseShape(
        "LlamaForCausalLM", 8, 16, 2, 4, 4, 2, 99, 0, 5
    )


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ("{", b""),
        ("[]", b""),
        ("{}", b""),
        (CONFIG.replace("8,", '"8",'), b""),
        (CONFIG, b"\xff" * 9),
    ],
)
def test_a_malformed_base_is_a_clear_error(tmp_path: Path, config: str, weights: bytes) -> None:
    write(tmp_path, valid() | {"models/base/tiny/config.json": config})
    if weights:
        (tmp_path / "models/base/tiny/model.safetensors").write_bytes(weights)
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, None, {})
    assert [each.code for each in caught.value.diagnostics] == ["FC1219"]


def test_no_fleet_and_no_such_environment(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no `fleet\.yaml`"):
        load_project(tmp_path, None, {})
    write(tmp_path, valid() | {"env/prod.yaml": "fleet: prod\n"})
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, "prd", {})
    assert caught.value.diagnostics[0].hint == "did you mean `prod`?"


def test_library_golden_sets_and_hidden_folders_hold_no_declarations(tmp_path: Path) -> None:
    more = {f"{folder}/x.yaml": "a: [" for folder in (".git", "models", "golden", "env")}
    write(tmp_path, valid() | more | {"teams/b.yml": "clients:\n  beta: {}\n"})
    project = load_project(tmp_path, None, {})
    assert project.files == ("clients/acme.yaml", "fleet.yaml", "teams/b.yml")


def test_the_library_is_where_the_fleet_says(tmp_path: Path) -> None:
    assert library_folder(tmp_path) == tmp_path / "models"
    write(tmp_path, {"fleet.yaml": "fleet: x\nlibrary: weights\n"})
    assert library_folder(tmp_path) == tmp_path / "weights"


def test_the_cache_changes_nothing_and_a_damaged_one_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ".home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    padding = "".join(f"# {'x' * 70} {number}\n" for number in range(1000))
    write(tmp_path, valid() | {"padding.yaml": f"{padding}tiers:\n  extra: {{replicas: 3}}\n"})
    cold = load_project(tmp_path, None, {}).fleet
    (cache,) = (home / "fleetctl").iterdir()
    warm = load_project(tmp_path, None, {}).fleet
    assert (warm, dict(warm.origins)) == (cold, dict(cold.origins))
    good = cache.read_text()
    for damaged in ("", "{}", good[:-9], good.replace("extra", "extrb"), "\udc00".join("ab")):
        cache.write_bytes(damaged.encode("utf-8", "surrogatepass"))
        assert load_project(tmp_path, None, {}).fleet == cold
    assert cache.read_text() == good
    write(tmp_path, {"padding.yaml": f"{padding}tiers:\n  extra: {{replicas: 4}}\n"})
    assert load_project(tmp_path, None, {}).fleet.tiers["extra"].replicas == 4


def test_a_small_fleet_and_a_failed_run_leave_no_cache(tmp_path: Path) -> None:
    write(tmp_path, valid())
    load_project(tmp_path, None, {})
    there = sorted(each.name for each in tmp_path.iterdir())
    assert there == ["clients", "fleet.lock", "fleet.yaml", "models"]


def test_a_host_reserved_for_a_tier_without_clients_is_a_warning(tmp_path: Path) -> None:
    reserved = FLEET.replace("    engine: local", "    reserved_for: [standard]\n    engine: local")
    write(tmp_path, valid() | {"fleet.yaml": reserved})
    project = load_project(tmp_path, None, {})
    assert [(each.code, str(each.place)) for each in project.warnings] == [
        ("FC1222", "fleet.yaml:15:5")
    ]
    assert project.fleet.warnings == (
        "No client has a tier that `laptop` is reserved for, so it stays empty.",
    )


def test_a_gateway_that_is_an_envoy_is_a_warning_in_every_plan(tmp_path: Path) -> None:
    listen = '{listen: "127.0.0.1:8080"'
    twin = FLEET.replace(listen, f"{listen}, kind: envoy")
    write(tmp_path, valid() | {"fleet.yaml": twin})
    project = load_project(tmp_path, None, {})
    assert [(each.code, str(each.place)) for each in project.warnings] == [
        ("FC1260", "fleet.yaml:25:3")
    ]
    (warning,) = project.fleet.warnings
    assert "another hash" in warning
    assert project.fleet.gateways["main"].kind == "envoy"


def test_every_code_of_a_broken_declaration_is_in_the_corpus() -> None:
    # tested here, with rollouts, golden sets, signatures, or the files that `validate` reads along
    elsewhere = (
        "FC1010 FC1011 FC1219 FC1222 FC1232 FC1233 FC1235 FC1236 FC1243 FC1246 FC1247 "
        "FC1248 FC1249 FC1250 FC1251 FC1254 FC1255 FC1256 FC1257 FC1258 FC1260 FC1262 "
        "FC1237 FC1238 FC1239 FC1267 FC1268 FC1279 FC1290 FC1291 FC1292 FC1293 FC1294 FC1295 "
        "FC1281 FC1282 FC1299 FC1301 FC1302 FC1303 FC1304"
    )
    attacked = "FC1276 FC1285 FC1286 FC1287 FC1289 FC1312 FC1313 FC1330 FC1331 FC1332 FC1333 FC1334"
    assert {case.code for case in CASES} | {*elsewhere.split()} | {*attacked.split()} == set(
        SUMMARIES
    )


pieces = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        (
            *("\t", "\n", "  ", ":", " #", "- ", "null", "1.10", "{", "}", "[", "]", "|", "'", '"'),
            *("&a ", "*a", "<<: ", "!!int ", "${var.x}", "${", "~", "[]", "{}", "-1", "1e999"),
            *("0x", "x-a: 1\n"),
        )
    ),
)
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), pieces), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=edits, second=edits | st.just([]), lock=edits | st.just([]))
def test_whatever_the_files_hold_the_answer_is_a_fleet_or_a_config_error(
    tmp_path: Path,
    first: list[tuple[float, int, str]],
    second: list[tuple[float, int, str]],
    lock: list[tuple[float, int, str]],
) -> None:
    files = valid()
    for name, changes in zip(files, (first, second, lock), strict=True):
        for where, cut, new in changes:
            text = files[name]
            at = int(where * len(text))
            files[name] = text[:at] + new + text[at + cut :]
    write(
        tmp_path, {name: text.encode("utf-8", "replace").decode() for name, text in files.items()}
    )
    try:
        found: FleetSpec | ConfigError = load_project(tmp_path, None, {}).fleet
    except ConfigError as error:
        found = error
    if isinstance(found, ConfigError):
        assert all(each.summary == SUMMARIES[each.code] for each in found.diagnostics)
        assert all(render(found.diagnostics) for render in RENDERERS.values())
    else:
        assert found.name
