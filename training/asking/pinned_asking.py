"""Step 8, before learning: put one question to one candidate and grade the reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import openai

from router.errors import CandidateReplyError, InvalidInputError
from training.asking.calibration_state import GradedReply
from training.graders import best_score, make_grader
from training.graders.registry import JUDGE
from training.spend import SpendCap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from openai.types import CompletionUsage

    from router.candidate import Price
    from training.asking.question_sets import CalibrationQuestion
    from training.graders import Grader, Judge

DECISION_HEADER = "x-pointsman-decision-id"
COST_HEADER = "x-pointsman-cost-usd"
MAX_SOURCE_CHARS = 64

GUESSED_CHARS_PER_TOKEN = 3.0
GUESSED_TOKENS_PER_IMAGE = 1000
GUESSED_OUTPUT_TOKENS = 512
"""What a first request is taken to cost, by its candidate's price; later ones as the dearest."""


class PinnedAsker:
    """Asks candidates through the running system, past the router, and grades what they say.

    Use as an asynchronous context manager, which closes its connections.

    Args:
        url: Of the running system.
        prices: By candidate; needed for a cap.
        spend: What was spent and may be; no bound when None.
        grader: Scores all replies; each question's own when None.
        judge: Scores the replies to questions that name a judge.
    """

    def __init__(
        self,
        url: str,
        *,
        prices: Mapping[str, Price] | None = None,
        spend: SpendCap | None = None,
        grader: Grader | None = None,
        judge: Judge | None = None,
    ) -> None:
        """Open no connection yet."""
        self.url = url
        self.judge = judge
        self.spend = spend or SpendCap()
        self._prices = prices or {}
        self._grader = grader
        self._dearest_usd: dict[str, float] = {}
        http = openai.DefaultAsyncHttpxClient(timeout=120, trust_env=False)
        self._client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", http_client=http)

    async def __aenter__(self) -> Self:
        """Return the asker itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._client.close()

    def expect_costs(self, dearest_usd: Mapping[str, float]) -> None:
        """Take what the dearest reply of each candidate has cost in earlier runs."""
        self._dearest_usd.update(dearest_usd)

    def check(self, candidate_ids: Iterable[str]) -> None:
        """Refuse a cap on candidates whose price is not known.

        Raises:
            InvalidInputError: If there is a cap and a price is missing; names the candidates.
        """
        unknown = [name for name in candidate_ids if name not in self._prices]
        if unknown and self.spend.is_capped:
            raise InvalidInputError(f"a cap needs the price of {', '.join(unknown)}", "prices")

    async def ask(self, question: CalibrationQuestion, candidate_id: str) -> GradedReply:
        """Return a candidate's reply, graded.

        Raises:
            SpendCapError: If the reply, or a judge's verdict, may cost more than is left.
            InvalidInputError: If the question cannot be graded.
            CandidateReplyError: If the system does not tell which decision it was.
            openai.OpenAIError: If the system cannot be reached or refuses.
            OSError: If an image cannot be read.
        """
        guess_usd = await self.spend.claim(lambda: self._guess_usd(question, candidate_id))
        cost_usd = 0.0
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                model=candidate_id,
                messages=question.messages(),  # type: ignore[arg-type]  # checked by the server
                temperature=0.0,
            )
            completion = raw.parse()
            cost_usd = self._cost_usd(
                candidate_id, raw.headers.get(COST_HEADER), completion.usage, guess_usd
            )
        finally:
            self.spend.settle(guess_usd, cost_usd)
        self._dearest_usd[candidate_id] = max(self._dearest_usd.get(candidate_id, 0.0), cost_usd)
        decision_id = raw.headers.get(DECISION_HEADER)
        if decision_id is None:
            raise CandidateReplyError(f"{self.url} sends no {DECISION_HEADER}; is it Pointsman?")
        reply = completion.choices[0].message.content or ""
        label, judge_usd = await self._grade(question, reply)
        return GradedReply(
            decision_id=decision_id,
            label={"decision_id": decision_id, **label},
            cost_usd=cost_usd + judge_usd,
        )

    async def _grade(
        self, question: CalibrationQuestion, reply: str
    ) -> tuple[dict[str, Any], float]:
        """Return score, source and version, and what the grading cost."""
        if self._grader is None and question.grader == JUDGE:
            return await self._judge(question, reply)
        grader = self._grader or make_grader(question.grader, question.options)
        label = {
            "score": best_score(grader, reply, question.answers),
            "source": f"grader:{grader.name}"[:MAX_SOURCE_CHARS],
            "grader_version": grader.version,
        }
        return label, 0.0

    async def _judge(
        self, question: CalibrationQuestion, reply: str
    ) -> tuple[dict[str, Any], float]:
        if self.judge is None:
            raise InvalidInputError(f"{question.question_id} needs a judge; give one", "judge")
        verdict = await self.judge.judge(question.text, reply, question.answer or None)
        label = {
            "score": verdict.score,
            "metrics": {"judge_raw": verdict.raw_score},
            "source": f"judge:{self.judge.name}"[:MAX_SOURCE_CHARS],
            "grader_version": self.judge.version,
        }
        self.spend.add(verdict.cost_usd)
        return label, verdict.cost_usd

    def _guess_usd(self, question: CalibrationQuestion, candidate_id: str) -> float:
        if candidate_id in self._dearest_usd:
            return self._dearest_usd[candidate_id]
        price = self._prices.get(candidate_id)
        if price is None:
            return 0.0
        num_input = len(question.text) / GUESSED_CHARS_PER_TOKEN
        num_input += len(question.images) * GUESSED_TOKENS_PER_IMAGE
        return price.cost_usd(num_input, GUESSED_OUTPUT_TOKENS)

    def _cost_usd(
        self,
        candidate_id: str,
        header: str | None,
        usage: CompletionUsage | None,
        guess_usd: float,
    ) -> float:
        """Return the cost by the system's own count, else by tokens and price, else the guess."""
        if header is not None:
            return float(header)
        price = self._prices.get(candidate_id)
        if price is None or usage is None:
            return guess_usd
        return price.cost_usd(usage.prompt_tokens, usage.completion_tokens)
