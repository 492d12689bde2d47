from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError

from tests.house import loaded_by
from updraft.config import (
    CloudLinkSettings,
    CloudSettings,
    EdgeSettings,
    ListenSettings,
    config_path,
    config_template,
    describe_sources,
    edge_profile,
    load_cloud_settings,
    load_edge_settings,
)
from updraft.config.layers import TIERS, leaves, variable
from updraft.errors import ConfigError
from updraft.modes import ModeSettings

WriteFile = Callable[[str], Path]
LEAVES = [leaf for tier, cls in TIERS.items() for leaf in leaves(cls(), (tier,))]
MODE_TABLES = [name for name, value in ModeSettings() if isinstance(value, BaseModel)]
NUMBERS = [leaf for leaf in LEAVES if "int" in str(leaf.field.annotation) or "float" in str(leaf.field.annotation)]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("UPDRAFT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Writes the user's configuration file."""

    def to_file(text: str) -> Path:
        file = tmp_path / "updraft" / "config.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    return to_file


def load(tier: str, **overrides: Any) -> EdgeSettings | CloudSettings:
    return load_edge_settings(**overrides) if tier == "edge" else load_cloud_settings(**overrides)


def test_defaults_are_those_of_the_contract() -> None:
    edge, cloud = EdgeSettings(), CloudSettings()
    assert (edge.http.port, edge.grpc.port, cloud.listen.port) == (7070, 7071, 7080)
    assert {edge.http.host, edge.grpc.host, cloud.listen.host} == {"127.0.0.1"}
    assert edge.cloud.address == "127.0.0.1:7080"
    assert not edge.insecure and not cloud.insecure
    assert load_cloud_settings() == cloud


def test_each_layer_is_above_the_one_below(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = edge_profile(EdgeSettings(device="jetson-orin-nano"))
    write('[edge]\ndevice = "jetson-orin-nano"')
    assert load_edge_settings().sequences == profile.sequences != EdgeSettings().sequences
    write('[edge]\ndevice = "jetson-orin-nano"\nsequences = 5')
    assert load_edge_settings().sequences == 5
    monkeypatch.setenv("UPDRAFT_EDGE__SEQUENCES", "6")
    assert load_edge_settings().sequences == 6
    assert load_edge_settings(sequences=7).sequences == 7
    assert load_edge_settings(sequences=None).sequences == 6


def test_a_table_keeps_the_values_that_a_layer_does_not_name(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    write('[edge.http]\nhost = "localhost"\n[cloud.listen]\nport = 1')
    monkeypatch.setenv("UPDRAFT_EDGE__HTTP__TOKEN", "secret")
    assert load_edge_settings(http={"port": 0}).http == ListenSettings(
        host="localhost", port=0, token=SecretStr("secret")
    )
    assert load_cloud_settings().listen == ListenSettings(port=1)


def test_a_settings_object_overrides_only_what_it_names() -> None:
    loaded = load_edge_settings(cloud=CloudLinkSettings(reply_timeout_s=3.0), http={"port": 1})
    assert loaded.cloud == CloudLinkSettings(reply_timeout_s=3.0)
    assert loaded.http.port == 1


def test_an_empty_text_clears_what_may_be_left_out(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    write('[edge.cloud]\naddress = ""')
    assert load_edge_settings().cloud.address is None
    monkeypatch.setenv("UPDRAFT_EDGE__CLOUD__ADDRESS", "example.org:1")
    assert load_edge_settings().cloud.address == "example.org:1"
    assert load_edge_settings(cloud={"address": ""}).cloud.address is None


def test_cores_come_as_a_list_or_as_text(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    write("[cloud]\ncores = [0, 2]")
    assert load_cloud_settings().cores == (0, 2)
    monkeypatch.setenv("UPDRAFT_CLOUD__CORES", "1, 3")
    assert load_cloud_settings().cores == (1, 3)


def test_every_key_can_be_set_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of the default is a value that every key takes, but for those that have none."""
    for leaf in LEAVES:
        text = ",".join(leaf.default) if isinstance(leaf.default, tuple) else leaf.default
        monkeypatch.setenv(variable(leaf.key), "" if text is None else str(text))
    assert load_edge_settings() == EdgeSettings()
    assert load_cloud_settings() == CloudSettings()
    assert {row.place for row in describe_sources("edge")} == {
        variable(leaf.key) for leaf in LEAVES if leaf.key[0] == "edge"
    }


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("UPDRAFT_EGDE__MODEL", "UPDRAFT_EDGE__MODEL"),
        ("UPDRAFT_CLOUD__LISTEN__PROT", "UPDRAFT_CLOUD__LISTEN__PORT"),
        ("UPDRAFT_EDGE_MODEL", "UPDRAFT_EDGE__MODEL"),
        ("UPDRAFT_CONFG", "UPDRAFT_CONFIG"),
        ("UPDRAFT_EDGE__HTTP", "UPDRAFT_EDGE__HTTP__PORT"),
        ("updraft_edge__model", "UPDRAFT_EDGE__MODEL"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(
    name: str, nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    for tier in TIERS:
        with pytest.raises(ConfigError) as caught:
            load(tier)
        assert name in caught.value.message and f"nearest known one is {nearest}." in caught.value.message


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("[edge]\nmodle = 1", "edge.modle", "edge.model"),
        ("[egde]\nmodel = 1", "egde", "edge"),
        ("[edge.htpp]\nport = 1", "edge.htpp", "edge.http"),
        ("[cloud.listen]\nprot = 1", "cloud.listen.prot", "cloud.listen.port"),
        ("[edge]\nreply_timeout_s = 1", "edge.reply_timeout_s", "edge.cloud.reply_timeout_s"),
        ("[edge.mode.stop]\nlenght = 1", "edge.mode.stop.lenght", "edge.mode.stop.length"),
    ],
)
def test_an_unknown_key_is_refused_with_file_and_nearest(text: str, key: str, nearest: str, write: WriteFile) -> None:
    file = write(text)
    for tier in TIERS:
        with pytest.raises(ConfigError) as caught:
            load(tier)
        assert caught.value.message == f"{key} in {file} is not a known key; the nearest known one is {nearest}."


def test_an_unknown_key_of_a_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"edge\.modle in flag .* edge\.mode"):
        load_edge_settings(modle="x")


@given(
    name=st.text(st.characters(codec="ascii", categories=["Ll", "Lu", "Nd"]), min_size=1),
    value=st.one_of(st.integers(), st.booleans(), st.text("abc"), st.just({})),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_no_unknown_key_gets_through(name: str, value: Any) -> None:
    if name in EdgeSettings.model_fields:
        return
    with pytest.raises(ConfigError, match=f"edge.{name} in flag is not a known key"):
        load_edge_settings(**{name: value})


@pytest.mark.parametrize("bad", ["0", "-1", "nan", "inf", "1e400", "x", "9" * 30], ids=str)
@pytest.mark.parametrize("leaf", NUMBERS, ids=lambda leaf: ".".join(leaf.key))
def test_numbers_have_sensible_ranges(leaf: Any, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    zero_is_fine = {"gpu_layers", "port", "escalate", "hand_back", "cores"}
    zero_is_fine |= {"threshold", "q", "hand_over", "split", "deepest", "last_stage"}
    zero_is_fine |= {"alpha", "floor", "ask", "give_up", "first_steps", "share", "cost", "explore", "random_share"}
    zero_is_fine |= {"host_bytes", "disk_bytes", "drain_notice_s", "ratio", "queue_length", "top_logprobs"}
    zero_is_fine |= {"edge_samples"}
    if bad == "0" and (leaf.key[-1] in zero_is_fine or leaf.key[1] in {"limits", "prices"}):
        return
    if bad == "-1" and leaf.key[-2:] in {("span", "escalate"), ("route", "threshold")}:  # an energy may be negative
        return
    monkeypatch.setenv(variable(leaf.key), bad)
    with pytest.raises(ConfigError) as caught:
        load(leaf.key[0])
    assert f"{'.'.join(leaf.key)} is {bad!r} (from {variable(leaf.key)})" in caught.value.message


@pytest.mark.parametrize("leaf", NUMBERS, ids=lambda leaf: ".".join(leaf.key))
def test_true_is_not_a_number(leaf: Any, write: WriteFile) -> None:
    file = write(f"[{'.'.join(leaf.key[:-1])}]\n{leaf.key[-1]} = true")
    with pytest.raises(ConfigError) as caught:
        load(leaf.key[0])
    assert ".".join(leaf.key) in caught.value.message and str(file) in caught.value.message


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"http": 3}, "edge.http in flag is 3; it must be a table"),
        ({"cores": "0,0"}, "each only once"),
        ({"cores": "0,x"}, "edge.cores is '0,x'"),
        ({"cores": "4096"}, "edge.cores"),
        ({"mode": {"mode": "warp"}}, "edge.mode.mode is 'warp' (from flag)"),
        ({"mode": {"span": {"escalate": 1.0}}}, "must not be above escalate"),
        ({"log_level": "loud"}, "edge.log_level is 'loud'"),
        ({"cloud": {"address": "localhost"}}, "an address is host:port"),
        ({"cloud": {"address": ":80"}}, "an address is host:port"),
        ({"cloud": {"address": "h:0"}}, "an address is host:port"),
        ({"cloud": {"address": "h:٣"}}, "an address is host:port"),
        ({"cloud": {"ca": "x.pem"}}, "need tls = true"),
        ({"cloud": {"tls": True, "cert": "x.pem"}}, "cert and key go together"),
        ({"http": {"tls_cert": "x.pem"}}, "tls_cert and tls_key go together"),
        ({"grpc": {"client_ca": "x.pem"}}, "client_ca needs tls_cert and tls_key"),
        ({"http": {"port": 65_536}}, "edge.http.port is 65536"),
        ({"model": ""}, "edge.model is ''"),
        ({"device": "toaster"}, "There is no device profile 'toaster'"),
    ],
)
def test_bad_values_name_key_and_place(overrides: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_edge_settings(**overrides)
    assert says in caught.value.message


def test_a_pass_must_fit_the_batch() -> None:
    with pytest.raises(ConfigError, match=r"pass_tokens \(256\) must not be above batch_tokens \(128\)"):
        load_cloud_settings(batch_tokens=128)


@pytest.mark.parametrize("address", ["10.0.0.5:7080", "cloud.example.org:7080", "[2001:db8::1]:7080", "localhost.x:1"])
def test_a_token_is_not_sent_over_a_network_in_clear_text(address: str) -> None:
    token = SecretStr("hunter2")
    with pytest.raises(ValidationError, match="in clear text: set cloud.tls, or insecure"):
        EdgeSettings(cloud=CloudLinkSettings(address=address, token=token))
    EdgeSettings(cloud=CloudLinkSettings(address=address))
    EdgeSettings(cloud=CloudLinkSettings(address=address, token=token, tls=True))
    EdgeSettings(cloud=CloudLinkSettings(address=address, token=token), insecure=True)


@pytest.mark.parametrize("address", ["127.0.0.1:7080", "localhost:7080", "[::1]:7080", "unix:/run/cloud.sock", None])
def test_a_token_may_stay_on_this_machine_in_clear_text(address: str | None) -> None:
    link = CloudLinkSettings(address=address, token=SecretStr("hunter2"))
    assert EdgeSettings(cloud=link).cloud == link


def test_a_rule_about_several_keys_names_their_places_alone(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write('[edge.cloud]\naddress = "10.0.0.5:7080"\n[edge.http]\ntoken = "other"')
    monkeypatch.setenv("UPDRAFT_EDGE__CLOUD__TOKEN", "hunter2")
    monkeypatch.setenv("UPDRAFT_EDGE__THREADS", "1")
    with pytest.raises(ConfigError) as caught:
        load_edge_settings(max_tokens=3)
    assert caught.value.message.endswith(f"(from {file}, UPDRAFT_EDGE__CLOUD__TOKEN).")
    assert "hunter2" not in caught.value.message


def test_settings_load_no_transport_until_a_token_needs_the_check() -> None:
    program = "from updraft.config import CloudLinkSettings, EdgeSettings\nEdgeSettings()"
    assert not loaded_by(program, {"grpc"})
    token = "EdgeSettings(cloud=CloudLinkSettings(token='x', tls=True))"
    assert not loaded_by(f"{program}\n{token}", {"grpc"})


def test_a_secret_stands_in_no_error_and_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_EDGE__CLOUD__TOKEN", "hunter2")
    loaded = load_edge_settings()
    assert loaded.cloud.token is not None and loaded.cloud.token.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{loaded!r} {loaded} {describe_sources('edge')}"
    assert {row.value for row in describe_sources("edge") if row.key == "edge.cloud.token"} == {"***"}
    with pytest.raises(ConfigError) as caught:
        load_edge_settings(cloud={"token": ["hunter2"]})
    assert "hunter2" not in caught.value.message


def test_files_that_cannot_be_used(tmp_path: Path, write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"is not valid TOML.*line 2"):
        load_edge_settings(write("[edge]\nmodel = @"))
    with pytest.raises(ConfigError, match=r"edge in .* is 3; it must be a table"):
        load_edge_settings(write("edge = 3"))
    (tmp_path / "latin.toml").write_bytes(b"[edge]\nmodel = '\xff'")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_edge_settings(tmp_path / "latin.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_edge_settings(tmp_path)
    monkeypatch.setenv("UPDRAFT_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(ConfigError, match=r"absent\.toml does not exist"):
        load_edge_settings()


def test_the_file_is_found_where_it_is_looked_for(tmp_path: Path) -> None:
    assert config_path({"UPDRAFT_CONFIG": "/a/b.toml", "XDG_CONFIG_HOME": "/c"}) == Path("/a/b.toml")
    assert config_path({"XDG_CONFIG_HOME": "/c"}) == Path("/c/updraft/config.toml")
    assert config_path({}) == Path.home() / ".config/updraft/config.toml"


def test_sources_are_named_for_every_key(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write('[edge]\ndevice = "laptop-gpu"\nmax_tokens = 9')
    monkeypatch.setenv("UPDRAFT_EDGE__LOG_LEVEL", "error")
    rows = {row.key: row for row in describe_sources("edge", cores="0,1", http={"port": 9})}
    assert [*rows] == [".".join(leaf.key) for leaf in LEAVES if leaf.key[0] == "edge"]
    assert (rows["edge.max_tokens"].value, rows["edge.max_tokens"].default) == (9, 512)
    places = {key: rows[f"edge.{key}"].place for key in ("max_tokens", "log_level", "cores", "http.port", "gpu_layers")}
    assert places == {
        "max_tokens": str(file),
        "log_level": "UPDRAFT_EDGE__LOG_LEVEL",
        "cores": "flag",
        "http.port": "flag",
        "gpu_layers": "device profile laptop-gpu",
    }
    assert rows["edge.grpc.port"].is_default and not rows["edge.cores"].is_default
    assert rows["edge.cores"].value == [0, 1]


def test_settings_made_in_code_read_no_variable_and_no_file(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    edge, cloud = EdgeSettings(), CloudSettings()
    write("[edge]\nsequences = 5\n[cloud]\nsequences = 5")
    monkeypatch.setenv("UPDRAFT_EDGE__MAX_TOKENS", "5")
    monkeypatch.setenv("UPDRAFT_CLOUD__MAX_SESSIONS", "5")
    assert (EdgeSettings(), CloudSettings()) == (edge, cloud)


def test_a_fault_in_one_tier_does_not_stop_the_other(write: WriteFile) -> None:
    write("[edge]\nsequences = 0\n[cloud]\nsequences = true")
    for tier in TIERS:
        with pytest.raises(ConfigError, match=rf"{tier}\.sequences is"):
            load(tier)
    write("[edge]\nsequences = 0")
    assert load_cloud_settings() == CloudSettings()


def test_what_a_higher_layer_hides_must_be_known_all_the_same(write: WriteFile) -> None:
    file = write("[edge]\nhttp = 3")
    with pytest.raises(ConfigError, match=f"edge.http in {re.escape(str(file))} is 3; it must be a table"):
        load_edge_settings(http={"port": 1})


def test_the_file_may_be_a_pipe() -> None:
    read, write = os.pipe()
    os.write(write, b"[edge]\nsequences = 5")
    os.close(write)
    try:
        assert load_edge_settings(Path(f"/dev/fd/{read}")).sequences == 5
    finally:
        os.close(read)


def test_settings_never_change() -> None:
    loaded = load_edge_settings()
    with pytest.raises(ValidationError):
        loaded.model = "other"
    with pytest.raises(ValidationError):
        loaded.http.port = 1


def test_the_template_has_every_key_with_its_default_and_meaning(write: WriteFile) -> None:
    text = config_template()
    for leaf in LEAVES:
        assert leaf.field.description
        assert f"# {leaf.field.description}\n# {leaf.key[-1]} = " in text
    assert tomllib.loads(text) == {
        "edge": {
            "staged": {},
            "tracing": {},
            "mode": {name: {} for name in MODE_TABLES},
            "cloud": {},
            "endpoint": {},
            "rules": {},
            "limits": {},
            "prices": {},
            "http": {},
            "grpc": {},
        },
        "cloud": {
            "staged": {},
            "torch": {},
            "experts": {},
            "kv": {},
            "operations": {},
            "tracing": {},
            "listen": {},
            "identity": {},
            "admission": {},
            "strategies": {},
        },
    }
    file = write(re.sub(r"^# ([a-z_0-9]+ = )", r"\1", text, flags=re.MULTILINE))
    assert load_edge_settings(file) == EdgeSettings()
    assert load_cloud_settings(file) == CloudSettings()
    assert all(row.place == str(file) for row in describe_sources("edge", file))


def test_pauses_between_attempts_double_up_to_a_bound() -> None:
    link = CloudLinkSettings(reconnect_backoff_s=0.5, reconnect_attempts=100)
    assert [link.pause_s(tried) for tried in range(4)] == [0.5, 1.0, 2.0, 2.0]
    assert link.pause_s(100) == 2.0
    assert CloudLinkSettings(reconnect_backoff_s=3.0).pause_s(5) == 3.0


def test_verifiers_are_listed_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_cloud_settings().strategies.verifiers is None
    monkeypatch.setenv("UPDRAFT_CLOUD__STRATEGIES__VERIFIERS", "number, regex")
    assert load_cloud_settings().strategies.verifiers == ("number", "regex")


def test_a_file_may_ask_for_effort(write: WriteFile) -> None:
    file = write('[edge.mode]\neffort = "high"\nstrategy = {name = "adaptive", wave = 2}')
    mode = load_edge_settings(file).mode
    assert (mode.mode, mode.effort, mode.strategy) == ("solve", "high", {"name": "adaptive", "wave": 2})
