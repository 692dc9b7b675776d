"""Step 8, before learning: post the labels of graded replies to the running system."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Self

import httpx
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from training.asking.calibration_state import CalibrationState

logger = logging.getLogger("pointsman.calibration")

LABELS_PER_REQUEST = 200
NUM_ATTEMPTS = 4
NOT_FOUND = 404


class LabelPoster:
    """Posts the labels that a state holds; safe to repeat, since a label replaces itself.

    Use as an asynchronous context manager, which closes its connections.
    """

    def __init__(self, url: str, state: CalibrationState) -> None:
        """Open no connection yet."""
        self._state = state
        self._http = httpx.AsyncClient(base_url=url, timeout=120, trust_env=False)
        self._lock = asyncio.Lock()
        self.num_lost = 0

    async def __aenter__(self) -> Self:
        """Return the poster itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def check_state(self) -> None:
        """Refuse a state of another outcome log: its questions would never be asked in this one.

        Raises:
            InvalidInputError: If the system does not know the last decision that was labelled.
        """
        decision_id = self._state.last_posted()
        if decision_id is None:
            return
        response = await self._http.get(f"/v1/decisions/{decision_id}")
        if response.status_code == NOT_FOUND:
            raise InvalidInputError(
                f"the state {self._state.path} belongs to another outcome log: decision "
                f"{decision_id} is not known here; remove the file, or name another",
                "state",
            )
        response.raise_for_status()

    async def post_some(self) -> None:
        """Post what waits, unless that is being done; a failure leaves it for later."""
        if self._lock.locked():
            return
        try:
            await self.post_all()
        except httpx.HTTPError as error:
            logger.warning("labels wait, they could not be posted: %s", error)

    async def post_all(self) -> None:
        """Post all that waits.

        Raises:
            httpx.HTTPError: If the system cannot be reached or refuses.
        """
        async with self._lock:
            while labels := self._state.unposted(LABELS_PER_REQUEST):
                await self._post(labels, num_attempts=NUM_ATTEMPTS)

    async def _post(self, labels: list[dict[str, Any]], *, num_attempts: int) -> None:
        """Post labels; where one has no outcome, halve until it stands alone, and drop it.

        An ingress replica learns of its neighbours' decisions from the log, seconds later: hence
        404 too is tried again, at first.
        """
        try:
            await self._send(labels, num_attempts)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != NOT_FOUND:
                raise
        else:
            self._state.mark_posted(label["decision_id"] for label in labels)
            return
        if len(labels) == 1:
            self._state.forget(labels[0]["decision_id"])
            self.num_lost += 1
            return
        half = len(labels) // 2
        for part in (labels[:half], labels[half:]):
            await self._post(part, num_attempts=1)

    async def _send(self, labels: list[dict[str, Any]], num_attempts: int) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(num_attempts),
            wait=wait_exponential(multiplier=0.5),
            reraise=True,
        ):
            with attempt:
                response = await self._http.post("/v1/outcomes", json={"labels": labels})
                response.raise_for_status()


def _may_pass(error: BaseException) -> bool:
    """Return whether posting again may help."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status in (NOT_FOUND, 408, 429) or status >= 500  # noqa: PLR2004 - HTTP's own numbers
    return isinstance(error, httpx.TransportError)
