"""A server that speaks S3 over HTTP, a proxy that loses its answers, and a place for MLflow."""

from __future__ import annotations

import secrets
import socket
import threading
import warnings

import boto3
import mlflow
import pytest
from werkzeug.serving import make_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from moto.server import DomainDispatcherApplication, create_backend_app


class S3Server:
    """Moto's server, which answers one request after the other.

    Moto looks whether a key exists and stores it in two steps; S3 takes them as one.
    """

    def __init__(self):
        """Listen on a free port."""
        application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, application, threaded=False)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self):
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class LossyProxy:
    """Hands bytes to a server and back; ``mode`` says what it loses.

    ``pass`` loses nothing. ``cut`` waits for the server's answer and hangs up instead of handing
    it on: the server has done what the client does not know of. ``refuse`` hangs up at once.
    """

    def __init__(self, port):
        """Listen on a free port, for the server at another."""
        self._port = port
        self.mode = "pass"
        self.num_cut = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            if self.mode == "refuse":
                return
            with socket.create_connection(("127.0.0.1", self._port)) as server:
                asking = threading.Thread(target=self._pump, args=(client, server), daemon=True)
                asking.start()
                if self.mode == "cut":
                    while server.recv(65536):
                        pass
                    self.num_cut += 1
                    client.shutdown(socket.SHUT_RDWR)
                else:
                    self._pump(server, client)

    @staticmethod
    def _pump(source, sink):
        try:
            while part := source.recv(65536):
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.fixture(scope="session")
def s3_server():
    """Return a running server."""
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3_environment(s3_server, monkeypatch):
    """Set the variables that point at the server, as an operator does."""
    variables = {
        "AWS_ENDPOINT_URL": s3_server.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def s3_root(s3_environment):
    """Return the address of an empty log in a bucket of its own."""
    bucket = f"log-{secrets.token_hex(6)}"
    client = boto3.client("s3", endpoint_url=s3_environment["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture
def lossy(s3_server, s3_environment, monkeypatch):
    """Return a proxy that stands between the log and the server from now on."""
    proxy = LossyProxy(s3_server.port)
    assert s3_environment["AWS_ENDPOINT_URL"] == s3_server.url
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def mlflow_folder(tmp_path_factory):
    """Return a folder for MLflow's database, beside which its artifacts will lie."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow's default artifact folder is relative
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("GIT_PYTHON_REFRESH", "quiet")
        before = mlflow.get_tracking_uri()
        yield folder
        mlflow.set_tracking_uri(before)
