"""A broken Serve config is refused before anything starts, with file, line and remedy."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from infra.serve_config import ConfigError, check_serve_config, engine_arguments

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "infra" / "serve").glob("*.yaml"))
GOOD = """\
applications:
- name: router
  route_prefix: /
  import_path: deployments.app:build
  args:
    registry_uri: http://127.0.0.1:5000
    outcome_log: .run/outcomes
    encoders: .cache/encoders

- name: candidate-small
  route_prefix: null
  import_path: deployments.candidates:build
  args:
    id: small
    kind: vllm
    source: weights/small
    engine:
      max_model_len: 512
  deployments:
  - name: candidate
    user_config:
      price: {input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.4}
      context_window: 512
"""

VENDOR = """\
- name: candidate-vendor
  route_prefix: null
  import_path: deployments.candidates:build
  args:
    id: vendor
    kind: openai
    base_url: https://api.example.com/v1
    model: large
    api_key_env: VENDOR_API_KEY
  deployments:
  - name: candidate
    num_replicas: 2
    user_config:
      price: {input_usd_per_mtok: 2.5, output_usd_per_mtok: 10}
      context_window: 128000
"""


@pytest.fixture
def check(tmp_path):
    """Return a check of a text beside a folder of weights; the faults come without the path."""
    (tmp_path / "weights" / "small").mkdir(parents=True)
    (tmp_path / "weights" / "small" / "config.json").write_text("{}")
    path = tmp_path / "serve.yaml"

    def check_text(text):
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(text)
        try:
            check_serve_config(path, root=tmp_path)
        except ConfigError as error:
            lines = str(error).splitlines()
            assert all(line.startswith(f"{path}:") for line in lines)
            return [line.removeprefix(f"{path}:") for line in lines]
        return []

    return check_text


def line_of(text, piece):
    """Return the line on which a piece stands, from 1."""
    return text[: text.index(piece)].count("\n") + 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_config_is_sound(path):
    """What the repository deploys passes its own check, and comes back parsed."""
    config = check_serve_config(path, root=ROOT)
    assert config == yaml.safe_load(path.read_text())


def test_a_sound_config_has_no_fault(check):
    """The text that the faults below are made of."""
    assert check(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("max_model_len: 512", "max_model_length: 512", "engine.max_model_length: vLLM knows no"),
        ("id: small", "id: tiny", "'tiny' does not match the application 'candidate-small'"),
        ("source: weights/small", "source: weights/large", "no config.json in weights/large"),
        ("source: weights/small", "source: ./elsewhere", "no config.json in ./elsewhere"),
        ("kind: vllm", "kind: magic", "kind: input should be 'vllm' or 'openai', got 'magic'"),
        (
            "input_usd_per_mtok: 0.1",
            "input_usd_per_mtok: -1",
            "greater than or equal to 0, got -1",
        ),
        ("context_window: 512", "context_windw: 512", "context_windw: unknown key; remove it"),
        ("registry_uri: http", "registry_url: http", "registry_url: unknown key; remove it"),
        ("name: candidate-small", "name: small", "neither `router` nor `candidate-<id>`; rename"),
        ("deployments.candidates:build", "other:build", "must be deployments.candidates:build"),
    ],
)
def test_a_fault_names_its_line_and_the_remedy(check, old, new, fault):
    """The line is the one that has to be mended."""
    text = GOOD.replace(old, new, 1)
    found = [line for line in check(text) if fault in line]
    assert [int(line.split(":")[0]) for line in found] == [line_of(text, new)]


@pytest.mark.parametrize(
    ("old", "block", "fault"),
    [
        ("    kind: vllm\n", "  args:\n    id", "kind: missing; add it"),
        ("    registry_uri: http://127.0.0.1:5000\n", "  args:", "registry_uri: missing; add it"),
        ("      context_window: 512\n", "    user_config:", "context_window: missing; add it"),
        ("  route_prefix: null\n", "- name: candidate-small", "add `route_prefix: null`"),
        (
            GOOD[GOOD.index("  deployments:\n") :],
            "- name: candidate-small",
            "add a deployment 'candidate' with a `user_config`",
        ),
        (
            GOOD[GOOD.index("    user_config:\n") :],
            "  - name: candidate\n",
            "price: missing; add it",
        ),
    ],
)
def test_what_is_missing_is_asked_for_where_it_belongs(check, old, block, fault):
    """The line is that of the block that lacks it."""
    text = GOOD.replace(old, "", 1)
    found = [line for line in check(text) if fault in line]
    assert [int(line.split(":")[0]) for line in found] == [line_of(text, block)]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("id: vendor", "id: other", "id: 'other' does not match the application"),
        ("model: large", 'model: ""', "model: string should have at least 1 character, got ''"),
        ("base_url: https://", "base_url: ftp://", "base_url: must be an http or https address"),
        ("VENDOR_API_KEY", "sk-1234abcd", "api_key_env: put the key in an environment variable"),
        ("api_key_env: V", "api_key: sk-1234abcd #", "api_key: put the key in an environment var"),
        ("base_url:", "source: x\n    base_url:", "source: unknown key; remove it"),
        ("model: large", "total_timeout_s: 0\n    model: large", "greater than 0, got 0"),
    ],
)
def test_a_fault_of_an_endpoint_is_told_without_its_key(check, old, new, fault):
    """The keys of the other kind are unknown here, and what may be a secret is not repeated."""
    text = GOOD + VENDOR.replace(old, new, 1)
    found = [line for line in check(text) if fault in line]
    assert [int(line.split(":")[0]) for line in found] == [line_of(text, new.split("\n")[0])]
    assert "1234" not in "".join(check(text))


@pytest.mark.parametrize(
    ("host", "rest"), [("me:sk-1234@host", ""), ("host", "?key=sk-1234"), ("host", "#sk-1234")]
)
def test_an_address_with_a_secret_is_refused(check, host, rest):
    """It would stand in the config and in Serve's status."""
    text = VENDOR.replace("api.example.com/v1", f"{host}/v1{rest}")
    (fault,) = check(GOOD + text)
    assert "base_url: must have no user, query or fragment; put the key" in fault
    assert "1234" not in fault


def test_fields_that_every_request_needs_are_not_dropped(check):
    """Without messages or the stream's usage there is no answer and no cost."""
    drop = "model: large\n    drop_fields: [seed, stream_options]"
    (fault,) = check(GOOD + VENDOR.replace("model: large", drop))
    assert "drop_fields: must leave stream_options in; remove it" in fault


def test_both_kinds_stand_side_by_side(check):
    """One block form, with replicas for either."""
    assert check(GOOD + VENDOR) == []


def test_all_faults_are_told_at_once(check):
    """Nobody has to mend and try in turn."""
    text = GOOD.replace("kind: vllm", "kind: magic").replace("encoders:", "encoder:")
    text = text.replace("route_prefix: null", "route_prefix: /x")
    told = "\n".join(check(text))
    assert all(piece in told for piece in ("magic", "encoder: unknown key", "route_prefix: null"))


def test_a_hub_id_is_not_looked_for_on_disk(check):
    """``org/model`` is a folder only if there is a folder ``org``."""
    assert check(GOOD.replace("weights/small", "org/model")) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\napplications: [", "2: not YAML: "),
        ("applications:\n  - name: a\n bad: b\n", "3: not YAML: "),
        ("a: \x07\n", "1: not YAML: "),
        (b"a: \xff\n", "1: not YAML: "),
        ("a: 2026-99-99\n", "1: not YAML: "),
        ("a: !!python/name:os.system\n", "1: not YAML: "),
        ("", "1: must be a mapping with `applications`"),
        ("- router\n", "1: must be a mapping with `applications`"),
        ("just words\n", "1: must be a mapping with `applications`"),
    ],
)
def test_what_is_no_config_at_all_is_refused(check, text, fault):
    """Half a list, a bad indent, bytes of no text, nothing."""
    (line,) = check(text)
    assert line.startswith(fault)


@pytest.mark.parametrize(
    "block",
    [
        "applications: 7",
        "applications:\n- 7",
        "applications:\n- name: candidate-a\n  deployments: [oops]",
        "applications:\n- name: candidate-a\n  deployments: {name: candidate}",
        "applications:\n- name: candidate-a\n  deployments: 7",
        "applications:\n- name: candidate-a\n  args: [a]",
        "applications:\n- name: router\n  args: {1: 2}",
        "applications:\n- [name]",
        "7: {}",
    ],
)
def test_a_config_of_the_wrong_shape_is_refused_not_crashed_on(check, block):
    """Numbers for lists, words for blocks: faults, not tracebacks."""
    assert check(block + "\n")


def test_a_file_that_is_not_there_is_named(tmp_path):
    """The system's own reason, and what to check."""
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read .*; check the path"):
        check_serve_config(tmp_path / "no.yaml", root=tmp_path)


def test_engine_arguments_are_read_without_importing_vllm():
    """Those of the engine and of its front end, by name."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    assert {"max_model_len", "gpu_memory_utilization", "chat_template"} <= engine_arguments()
