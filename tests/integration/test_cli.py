"""The command asks a real HTTP server that answers as our own system does."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from deployments.cli import app

CARD = {"price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4}, "context_window": 512}
READY = {
    "ready": True,
    "pool_age_s": 0.31,
    "candidates": {"reader": "available", "scene": "saturated"},
    "router": {"version": "3", "schema": "ab12"},
    "outcomes": {"written": 7, "labels_written": 0, "dropped": 0, "without_features": 0},
}
RECEIPT = {
    "decision_id": "dec_1",
    "time": "2026-03-01T12:00:00+00:00",
    "router_version": "3",
    "candidate_ids": ["scene", "reader", "charter"],
    "is_available": [True, True, False],
    "refusals": [None, None, "draining"],
    "quality_means": [0.4123, 0.9, 0.7],
    "quality_stds": [0.1, 0.02, 0.3],
    "costs_usd": [0.00001, 0.00002, 0.00003],
    "latencies_s": [0.1, 0.25, 0.3],
    "utilities": [0.4, 0.88, 0.6],
    "propensities": [0.05, 0.95, 0.0],
    "choice": "reader",
    "propensity": 0.95,
    "policy": "greedy",
    "attempts": [
        {"candidate_id": "reader", "started_s": 0.1, "duration_s": 0.2, "error": "[/b] 503"},
        {"candidate_id": "scene", "started_s": 0.3, "duration_s": 0.2, "error": None},
    ],
    "answered_by": "scene",
    "status": "ok",
    "latency_s": 0.5,
    "cost_usd": 0.00001,
}
UNROUTED = RECEIPT | {
    "quality_means": [],
    "quality_stds": [],
    "costs_usd": [],
    "latencies_s": [],
    "utilities": [],
    "propensities": [],
    "propensity": 1.0,
    "policy": "pinned",
    "attempts": None,
}


def application(name, *, target=1, states=("RUNNING",), **card):
    """Return one candidate's application as Serve's status tells it."""
    config = {
        "name": name,
        "import_path": "deployments.candidates:build",
        "deployments": [{"name": "candidate", "user_config": CARD | card}],
    }
    replicas = [{"replica_id": str(i), "state": state} for i, state in enumerate(states)]
    deployment = {"target_num_replicas": target, "replicas": replicas}
    return {
        "status": "RUNNING",
        "deployed_app_config": config,
        "deployments": {"candidate": deployment},
    }


class System:
    """A server that answers by path, and keeps what was put."""

    def __init__(self):
        """Answer as a healthy system does."""
        router = {"status": "RUNNING", "deployed_app_config": {"name": "router"}}
        self.applications = {
            "router": router,
            "candidate-reader": application("candidate-reader"),
            "candidate-scene": application("candidate-scene"),
        }
        self.put = []
        missing = {"error": {"message": "decision_id 'x' is not known", "code": "not_found"}}
        self.answers = {
            "/readyz": (200, READY),
            "/v1/decisions/dec_1": (200, RECEIPT),
            "/v1/decisions/unrouted": (200, UNROUTED),
            "/v1/decisions/..%2Freadyz": (404, missing),
        }

    def answer(self, path):
        """Return status and body."""
        if path == "/api/serve/applications/":
            return 200, {"proxy_location": "HeadOnly", "applications": self.applications}
        return self.answers.get(path, (404, {"error": {"message": f"nothing at {path}"}}))

    def draining(self):
        """Return who drains in the config that was put last."""
        return {
            app["name"]: app["deployments"][0]["user_config"].get("draining", False)
            for app in self.put[-1]["applications"]
            if "deployments" in app
        }


@pytest.fixture(scope="module")
def server():
    """Return a server in a thread, and the holder of the system that it plays."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, body = self.server.system.answer(self.path)
            self.reply(status, body if isinstance(body, bytes) else json.dumps(body).encode())

        def do_PUT(self):
            size = int(self.headers["content-length"])
            self.server.system.put.append(json.loads(self.rfile.read(size)))
            self.reply(*self.server.system.answers.get("PUT", (200, b"")))

        def reply(self, status, body):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def system(server):
    """Return a healthy system."""
    server.system = System()
    return server.system


@pytest.fixture
def run(server):
    """Return a runner of the command; gives exit code, output and complaint."""
    url = f"http://127.0.0.1:{server.server_port}"

    def run_command(*arguments):
        variables = {"POINTSMAN_URL": url, "POINTSMAN_SERVE_API": url + "/", "COLUMNS": "160"}
        done = CliRunner().invoke(app, arguments, env=variables)
        return done.exit_code, done.stdout, done.stderr

    return run_command


def lines_with(text, word):
    """Return the cells of the lines that hold a word."""
    return [
        [cell.strip() for cell in re.split("[│┃]", line)]
        for line in text.splitlines()
        if word in line
    ]


def test_status_of_a_system_that_answers(system, run):
    """Exit code 0; every leaf by its path, or JSON as it came."""
    code, text, _ = run("status")
    assert code == 0
    assert ["", "router.version", "3", ""] in lines_with(text, "router.version")
    assert json.loads(run("--json", "status")[1]) == READY
    assert not system.put


def test_status_of_a_system_that_does_not(system, run):
    """Exit code 1, and the state is shown all the same."""
    system.answers["/readyz"] = (503, READY | {"ready": False, "router": {"error": "no router"}})
    code, text, _ = run("status")
    assert code == 1
    assert "no router" in text


@pytest.mark.parametrize("command", ["status", "candidates", "drain scene", "explain dec_1"])
def test_a_system_that_is_away_is_told_from_one_that_says_no(command):
    """Exit code 3 and where it was looked for."""
    there = ["--url", "http://127.0.0.1:9", "--serve-api", "http://127.0.0.1:9"]
    done = CliRunner().invoke(app, [*there, *command.split()])
    assert done.exit_code == 3
    assert (
        done.stderr == "http://127.0.0.1:9 does not answer (ConnectError); is it running there?\n"
    )
    assert not done.stdout


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"7", b"\xff"])
def test_an_answer_of_another_shape_is_no_answer(system, run, body):
    """Another server may listen there."""
    system.answers["/readyz"] = (200, body)
    code, text, complaint = run("status")
    assert (code, text) == (3, "")
    assert "/readyz: 200: " in complaint


def test_candidates_are_listed_as_the_ingress_sees_them(system, run):
    """It knows who is full; replicas and limits are Serve's; a faulty block says why."""
    system.applications["candidate-cold"] = application("candidate-cold", target=0, states=())
    system.applications["candidate-bad"] = application("candidate-bad", context_window=0)
    code, text, _ = run("--json", "candidates")
    rows = {row["id"]: row for row in json.loads(text)}
    assert code == 0
    assert {name: row["state"].split(":")[0] for name, row in rows.items()} == {
        "reader": "available",
        "scene": "saturated",
        "cold": "cold",
        "bad": "left out",
    }
    assert (rows["reader"]["replicas"], rows["reader"]["context_window"]) == (1, 512)
    assert "context_window" in rows["bad"]["state"]
    assert lines_with(run("candidates")[1], "scene")[0][1:4] == ["scene", "saturated", "1"]


def test_a_receipt_is_a_table(system, run):
    """The best first, the masked last, the choice marked; then who answered and who failed."""
    code, text, _ = run("explain", "dec_1")
    assert code == 0
    rows = [lines_with(text, name)[0] for name in ("reader", "scene", "charter")]
    assert rows[0][1:] == ["→", "reader", "0.9", "0.02", "2e-05", "0.25", "0.88", "0.95", "", ""]
    assert rows[2][2:] == ["charter", "0.7", "0.3", "3e-05", "0.3", "0.6", "0", "draining", ""]
    assert text.index("reader") < text.index("scene") < text.index("charter")
    assert ["", "attempt: reader", "[/b] 503", ""] in lines_with(text, "attempt")
    assert ["", "answered_by", "scene", ""] in lines_with(text, "answered_by")
    assert json.loads(run("--json", "explain", "dec_1")[1]) == RECEIPT
    assert not system.put


def test_a_receipt_without_a_router_has_no_predictions(system, run):
    """Pinned requests have a choice and a refusal for each, and that is all."""
    code, text, _ = run("explain", "unrouted")
    assert code == 0
    assert lines_with(text, "→")[0][1:] == ["→", "reader", *[""] * 5, "1", "", ""]
    assert system.answers


def test_an_unknown_decision_is_a_no(system, run):
    """Exit code 1 with the system's words; the id cannot leave its place in the path."""
    code, text, complaint = run("explain", "../readyz")
    assert (code, text) == (1, "")
    assert "404: decision_id 'x' is not known" in complaint
    assert system.answers


def test_drain_and_undrain_change_one_flag(system, run):
    """All applications go back, the router among them."""
    code, text, _ = run("drain", "scene")
    assert code == 0
    assert "scene: drains" in text
    assert "next `serve deploy`" in text
    assert system.draining() == {"candidate-reader": False, "candidate-scene": True}
    assert [app["name"] for app in system.put[0]["applications"]] == [*system.applications]
    assert system.put[0]["proxy_location"] == "HeadOnly"

    system.applications["candidate-scene"] = application("candidate-scene", draining=True)
    assert json.loads(run("--json", "undrain", "scene")[1]) == {
        "draining": {"scene": False},
        "left": ["reader", "scene"],
    }
    assert system.draining() == {"candidate-reader": False, "candidate-scene": False}


def test_the_last_one_is_drained_by_force_only(system, run):
    """An outage is asked for in so many words."""
    system.applications["candidate-reader"] = application("candidate-reader", draining=True)
    code, _, complaint = run("drain", "scene")
    assert code == 1
    assert "nobody would be left to answer; --force" in complaint
    assert not system.put
    assert run("drain", "scene", "--force")[0] == 0
    assert system.draining() == {"candidate-reader": True, "candidate-scene": True}


def test_pin_drains_all_others_and_unpin_none(system, run):
    """The pinned one is not drained, even if it was."""
    system.applications["candidate-scene"] = application("candidate-scene", draining=True)
    assert run("pin", "scene")[0] == 0
    assert system.draining() == {"candidate-reader": True, "candidate-scene": False}
    assert run("unpin")[0] == 0
    assert system.draining() == {"candidate-reader": False, "candidate-scene": False}


def test_only_one_that_runs_is_pinned(system, run):
    """Nobody would stand in for it."""
    system.applications["candidate-cold"] = application("candidate-cold", target=0, states=())
    assert run("pin", "cold")[0] == 1
    assert not system.put
    assert run("pin", "cold", "--force")[0] == 0


@pytest.mark.parametrize("command", ["drain", "undrain", "pin"])
def test_an_unknown_candidate_is_a_no(system, run, command):
    """Nothing is put."""
    code, _, complaint = run(command, "nobody")
    assert code == 1
    assert "candidate 'nobody' is not deployed; known are: reader, scene" in complaint
    assert not system.put


def test_serves_own_no_is_passed_on(system, run):
    """Such as a config that it finds fault with."""
    system.answers["PUT"] = (400, b"1 validation error for ServeDeploySchema")
    code, text, complaint = run("drain", "scene")
    assert (code, text) == (1, "")
    assert "400: 1 validation error" in complaint


def test_wrong_usage_has_a_code_of_its_own(run):
    """An unknown command, a missing id, an unknown option."""
    for command in (["dance"], ["drain"], ["status", "--loud"]):
        assert run(*command)[0] == 2
