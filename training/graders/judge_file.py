"""A judge as a YAML file describes it, measured and corrected before it is used.

    url: https://host/v1
    model: some-judge
    input_usd_per_mtok: 0.15
    output_usd_per_mtok: 0.6
    spend_cap_usd: 2.0
    gold: gold.jsonl

The gold file holds one JSON object a line: ``question``, ``reply``, ``gold_score``, and ``answer``
where there is one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router.candidate import Price
from router.errors import InvalidInputError
from training.graders.judge import GoldReply, JudgeConfig, ModelJudge, measure_judge
from training.graders.judge_bias import MIN_GOLD, bias_correction

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.graders.judge_bias import JudgeBias

M = TypeVar("M", bound=BaseModel)


class JudgeFile(BaseModel):
    """The file's keys."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    url: str
    """Base URL of an endpoint that speaks OpenAI's protocol."""

    model: str = Field(min_length=1)
    """The judge's name there."""

    key_variable: str = "POINTSMAN_JUDGE_API_KEY"
    """Environment variable that holds the key."""

    input_usd_per_mtok: float = Field(default=0.0, ge=0)
    """Price of its prompt tokens."""

    output_usd_per_mtok: float = Field(default=0.0, ge=0)
    """Price of its reply tokens."""

    spend_cap_usd: float | None = Field(default=None, ge=0)
    """Most to spend on it, the measuring included."""

    max_output_tokens: int = Field(default=256, ge=1)
    """Most tokens of a verdict."""

    gold: Path
    """Replies whose quality is known; relative to this file."""

    max_bias: float = Field(default=0.15, ge=0, le=1)
    """Largest mean bias that is corrected; a judge beyond it is refused."""

    min_gold: int = Field(default=MIN_GOLD, ge=2)
    """Fewest gold replies."""

    def config(self) -> JudgeConfig:
        """Return what the judge itself needs to know."""
        return JudgeConfig(
            url=self.url,
            model=self.model,
            key_variable=self.key_variable,
            price=Price(
                input_usd_per_mtok=self.input_usd_per_mtok,
                output_usd_per_mtok=self.output_usd_per_mtok,
            ),
            spend_cap_usd=self.spend_cap_usd,
            max_output_tokens=self.max_output_tokens,
        )


class _GoldRow(BaseModel):
    model_config = ConfigDict(extra="ignore")

    question: str
    reply: str
    gold_score: float = Field(ge=0, le=1)
    answer: str | None = None


def open_judge(
    path: Path, *, on_measured: Callable[[JudgeBias], None] = lambda _: None
) -> ModelJudge:
    """Return a judge whose bias was measured just now and is taken off.

    Blocks while the judge scores the gold replies; call it outside of an event loop.

    Args:
        path: The file.
        on_measured: Told the bias, before the judge may be refused for it.

    Raises:
        InvalidInputError: If a file is missing, or a key or a row cannot be read.
        JudgeRefusedError: If the judge is too far off, or too little is known of it.
        SpendCapError: If measuring it may cost more than its cap.
    """
    file = _read(JudgeFile, _yaml(path), path.name)
    gold = read_gold(path.parent / file.gold)
    judge, bias = asyncio.run(_measured(file, gold))
    on_measured(bias)
    correction = bias_correction(bias, max_bias=file.max_bias, min_gold=file.min_gold)
    return judge.corrected(correction)


def read_gold(path: Path) -> list[GoldReply]:
    """Return replies whose quality is known.

    Raises:
        InvalidInputError: If the file is missing or a row cannot be read; names it.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path} does not exist", "gold")
    rows = [line for line in path.read_bytes().splitlines() if line.strip()]
    gold = []
    for number, line in enumerate(rows, start=1):
        try:
            row = _GoldRow.model_validate_json(line)
        except ValidationError as error:
            raise _fault(error, f"{path.name}, row {number}") from None
        gold.append(GoldReply(**row.model_dump()))
    return gold


async def _measured(file: JudgeFile, gold: list[GoldReply]) -> tuple[ModelJudge, JudgeBias]:
    async with ModelJudge(file.config()) as judge:
        return judge, await measure_judge(judge, gold)


def _yaml(path: Path) -> object:
    if not path.is_file():
        raise InvalidInputError(f"{path} does not exist", "judge")
    try:
        return yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InvalidInputError(f"{path.name} is no YAML: {error}", "judge") from None


def _read(model: type[M], value: object, name: str) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _fault(error, name) from None


def _fault(error: ValidationError, name: str) -> InvalidInputError:
    detail = error.errors(include_url=False)[0]
    field = ".".join(map(str, detail["loc"]))
    return InvalidInputError(f"{name}, {field or 'content'}: {detail['msg']}", field)
