"""Asks shipped candidates fresh questions and keeps, for every question, who was right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from transformers import AutoProcessor, Idefics3ForConditionalGeneration

from infra.zoo.models import WEIGHTS
from infra.zoo.questions import grade

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from infra.zoo.questions import Question

BATCH_SIZE: Final = 64


def messages(question: Question) -> list[dict[str, Any]]:
    """Return the question as the chat messages that the chat template takes."""
    parts: list[dict[str, Any]] = [{"type": "image"} for _ in question.images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question.text}]}]


class Asker:
    """A shipped candidate in transformers, decoding greedily."""

    def __init__(self, candidate: str) -> None:
        """Load `weights/<candidate>`."""
        folder = WEIGHTS / candidate
        self._processor = AutoProcessor.from_pretrained(folder)
        self._processor.tokenizer.padding_side = "left"
        # In bfloat16 two logits are often exactly equal, and engines break such ties differently.
        self._model = Idefics3ForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32
        ).eval()

    def replies(self, questions: Sequence[Question]) -> list[str]:
        """Answer questions, in their order."""
        by_images: dict[int, list[int]] = defaultdict(list)
        for index, question in enumerate(questions):
            by_images[len(question.images)].append(index)
        replies = [""] * len(questions)
        for indices in by_images.values():
            for start in range(0, len(indices), BATCH_SIZE):
                some = indices[start : start + BATCH_SIZE]
                texts = self._batch([questions[index] for index in some])
                for index, text in zip(some, texts, strict=True):
                    replies[index] = text
        return replies

    def _batch(self, questions: list[Question]) -> list[str]:
        texts = [
            self._processor.apply_chat_template(messages(question), add_generation_prompt=True)
            for question in questions
        ]
        images = [list(question.images) for question in questions] if questions[0].images else None
        inputs = self._processor(text=texts, images=images, padding=True, return_tensors="pt")
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, do_sample=False)
        new_tokens = tokens[:, inputs["input_ids"].shape[1] :]
        decoded: list[str] = self._processor.batch_decode(new_tokens, skip_special_tokens=True)
        return decoded


@dataclass(frozen=True, kw_only=True)
class Report:
    """Who answered what rightly. M = candidates, N = questions."""

    candidates: tuple[str, ...]
    """Order of the first axis."""
    questions: tuple[Question, ...]
    """Order of the second axis."""
    right_MN: NDArray[np.float64]
    """1.0 where the reply was right, else 0.0."""

    def accuracies(
        self, keep: Callable[[Question], bool] = lambda _: True
    ) -> tuple[NDArray[np.float64], int]:
        """Return each candidate's accuracy (M) on the questions kept, and their number."""
        kept_N = np.array([keep(question) for question in self.questions])
        return self.right_MN[:, kept_N].mean(axis=1), int(kept_N.sum())

    def oracle(self) -> float:
        """Return how often at least one candidate is right."""
        return float(self.right_MN.max(axis=0).mean())

    def best_single(self) -> tuple[str, float]:
        """Return the candidate right most often, with its accuracy."""
        accuracy_M, _ = self.accuracies()
        best = int(accuracy_M.argmax())
        return self.candidates[best], float(accuracy_M[best])


def evaluate(candidates: Sequence[str], questions: Sequence[Question]) -> Report:
    """Ask every candidate every question."""
    right = [
        [
            grade(question.answer, reply)
            for question, reply in zip(questions, Asker(name).replies(questions), strict=True)
        ]
        for name in candidates
    ]
    return Report(
        candidates=tuple(candidates), questions=tuple(questions), right_MN=np.array(right)
    )
