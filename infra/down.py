"""Stop everything that `make up` or `make demo` started: ``python -m infra.down``."""

from __future__ import annotations

from infra import services
from infra.progress import step


def main() -> None:
    """Stop Ray and MLflow; doing so twice is fine."""
    for service in ("ray", "mlflow"):
        with step(f"Stop {service}", expected_s=8) as current:
            current.detail = f"{services.stop(service)} processes ended"


if __name__ == "__main__":
    main()
