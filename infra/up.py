"""Bring the system up: ``python -m infra.up infra/serve/local.yaml``. Safe to run twice."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from infra import services
from infra.progress import step
from infra.serve_config import ConfigError, check_serve_config

START_TIMEOUT_S = 900.0
"""Four engines start in about 150 s on two idle cores; a busy machine needs several times that."""


def bring_up(config_path: Path) -> None:
    """Check the config, start the services, deploy, and wait until questions can be answered.

    Raises:
        ConfigError: If the config is broken; nothing was started or deployed then.
        ServiceError: If a service did not come up.
    """
    with step("Check the config", expected_s=5):
        config = check_serve_config(config_path, root=services.ROOT)
    with step("Start Ray and MLflow", expected_s=20):
        services.start_mlflow()
        services.start_ray()
    with step("Deploy with Serve", expected_s=12):
        deploy(config_path)
    names = [application["name"] for application in config["applications"]]
    with step(f"Wait for {len(names)} applications", expected_s=60 + 30 * len(names)) as current:
        await_applications(names, on_progress=lambda text: setattr(current, "detail", text))
        services.await_mlflow()
        await_ready()


def deploy(config_path: Path) -> None:
    """Run ``serve deploy``.

    Raises:
        ServiceError: If Serve refuses the config.
    """
    services.run_module("ray.serve.scripts", "deploy", str(config_path))


def applications() -> dict[str, Any]:
    """Return Serve's applications by name; empty until Serve runs."""
    url = f"{services.RAY_API}/api/serve/applications/"
    try:
        response = httpx.get(url, timeout=10, trust_env=False).raise_for_status()
    except httpx.HTTPError:
        return {}
    found: dict[str, Any] = response.json().get("applications", {})
    return found


def await_applications(names: list[str], *, on_progress: Any = lambda _: None) -> None:  # noqa: ANN401 - any callable
    """Wait until every application runs.

    Raises:
        ServiceError: If one fails to deploy, or the time is up.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    states: Counter[str] = Counter()
    while time.monotonic() < deadline:
        found = applications()
        states = Counter(found.get(name, {}).get("status", "NOT_STARTED") for name in names)
        on_progress(", ".join(f"{count} {state.lower()}" for state, count in states.items()))
        for name in names:
            if found.get(name, {}).get("status") == "DEPLOY_FAILED":
                raise services.ServiceError(f"{name} failed:\n{found[name]['message'][-2000:]}")
        if states["RUNNING"] == len(names):
            return
        time.sleep(1.0)
    raise services.ServiceError(
        f"not all applications ran within {START_TIMEOUT_S:.0f} s: {states}"
    )


def await_ready() -> None:
    """Wait until the ingress says that a question can be answered.

    Raises:
        ServiceError: If it does not within a minute.
    """
    deadline = time.monotonic() + 60
    text = ""
    while time.monotonic() < deadline:
        try:
            response = httpx.get(f"{services.HTTP_URL}/readyz", timeout=10, trust_env=False)
        except httpx.HTTPError as error:
            text = str(error)
        else:
            if response.status_code == httpx.codes.OK:
                return
            text = response.text
        time.sleep(0.5)
    raise services.ServiceError(f"the ingress is not ready: {text}")


def print_addresses() -> None:
    """Say where everything is."""
    print(f"  questions     {services.HTTP_URL}/v1/chat/completions   (model: auto)")
    print(f"  Ray and Serve {services.RAY_API}")
    print(f"  MLflow        {services.MLFLOW_URI}")
    print("  stop with     make down")


def main(
    config: Annotated[Path, typer.Argument(help="A Serve config.")] = Path(
        "infra/serve/local.yaml"
    ),
) -> None:
    """Bring the system up and say where it is."""
    try:
        bring_up(config)
    except (ConfigError, services.ServiceError) as error:
        print(f"\n{error}", file=sys.stderr)
        raise SystemExit(1) from None
    print_addresses()


if __name__ == "__main__":
    typer.run(main)
