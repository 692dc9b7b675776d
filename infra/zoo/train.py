"""Trains one candidate from nothing: `python -m infra.zoo.train reader`.

Besides the answer, a throw-away head learns what each patch of a picture shows. Without that
dense signal these towers need many times the samples before they look at the picture at all.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit
from transformers import PreTrainedTokenizerFast

from infra.zoo.models import (
    ANSWER,
    BOS,
    EOS,
    FAKE,
    GLOBAL,
    IMAGE,
    NUM_IMAGE_TOKENS,
    RECIPES,
    WEIGHTS,
    build_model,
    build_tokenizer,
    save,
)
from infra.zoo.muon import Muon
from infra.zoo.questions import TASKS, generate
from infra.zoo.questions.canvas import PATCH_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from transformers import Idefics3ForConditionalGeneration

    from infra.zoo.models import Recipe
    from infra.zoo.questions import Question

    Losses = tuple[Tensor, Tensor, Tensor]

log = logging.getLogger(__name__)

NUM_ONE_IMAGE: Final = 64
NUM_RARE: Final = 8
MAX_TEXT_TOKENS: Final = 22
MUON_RATE: Final = 8e-3
ADAM_RATE: Final = 2e-3
WARMUP_STEPS: Final = 20
PATCH_LOSS_WEIGHT: Final = 0.5
EMPTY_PATCH_WEIGHT: Final = 0.2
CHECKPOINT_STEPS: Final = 150
LOG_STEPS: Final = 25
IGNORED: Final = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions with the same number of pictures each. B questions, I pictures each, T tokens."""

    pixels: Tensor
    """(B * I, 3, 64, 64) in -1..1."""
    patches: Tensor
    """(B * I, 64) labels of `PATCH_NAMES`."""
    tokens: Tensor
    """(B, T) prompt, answer, end, padding."""
    targets: Tensor
    """(B, T) the next token where it belongs to the answer, else `IGNORED`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step tells."""

    num_right: int
    """Answer tokens that were the likeliest."""
    num_tokens: int
    """Answer tokens, ends included."""
    patch_loss: float
    """Cross-entropy of the patch head, in nats."""


class Collator:
    """Turns questions into batches, with the prompt that the chat template gives."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Remember the ids that frame every prompt."""
        self._tokenizer = tokenizer
        self._texts: dict[str, list[int]] = {}
        picture = FAKE + GLOBAL + IMAGE * NUM_IMAGE_TOKENS + FAKE
        self._picture = self._ids(picture)
        self._bos, self._answer, self._eos = (self._ids(t)[0] for t in (BOS, ANSWER, EOS))

    def _ids(self, text: str) -> list[int]:
        if text not in self._texts:
            self._texts[text] = self._tokenizer.encode(text, add_special_tokens=False)
        return self._texts[text]

    def __call__(self, questions: list[Question]) -> Batch:
        """Pad to a fixed length, so that compiled code sees one shape per number of pictures."""
        num_images = len(questions[0].images)
        length = 1 + num_images * len(self._picture) + MAX_TEXT_TOKENS
        tokens = torch.zeros(len(questions), length, dtype=torch.long)
        targets = torch.full_like(tokens, IGNORED)
        for row, question in enumerate(questions):
            prompt = [self._bos, *self._picture * num_images, *self._ids(question.text)]
            prompt.append(self._answer)
            reply = [*self._ids(question.answer), self._eos]
            end = len(prompt) + len(reply)
            tokens[row, :end] = torch.tensor(prompt + reply)
            targets[row, len(prompt) - 1 : end - 1] = torch.tensor(reply)
        pixels, patches = _pictures(questions)
        return Batch(pixels, patches, tokens, targets)


def _pictures(questions: list[Question]) -> tuple[Tensor, Tensor]:
    images = [np.asarray(image) for question in questions for image in question.images]
    if not images:
        return torch.zeros(0, 3, 64, 64), torch.zeros(0, 64, dtype=torch.long)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    labels = [patch.reshape(-1) for question in questions for patch in question.patches]
    return pixels, torch.from_numpy(np.stack(labels))


class Learner(nn.Module):
    """The model with its throw-away patch head; computes the loss of a batch."""

    def __init__(self, model: Idefics3ForConditionalGeneration) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = model
        width = model.config.vision_config.hidden_size
        self.patch_head = nn.Linear(width, len(PATCH_NAMES))
        weights = torch.ones(len(PATCH_NAMES))
        weights[0] = EMPTY_PATCH_WEIGHT
        self.register_buffer("patch_weights", weights, persistent=False)

    def see(self, pixels: Tensor) -> Tensor:
        """Return the vision tower's output, (pictures, 64, width)."""
        tower = self.model.model.vision_model
        seen = tower.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        seen = seen + tower.embeddings.position_embedding.weight
        for layer in tower.encoder.layers:
            seen = layer(seen, None)
        return tower.post_layernorm(seen)

    def forward(
        self, pixels: Tensor, patches: Tensor, tokens: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the answer loss, summed, the patch loss, and the number of right tokens.

        Equals the shipped model's own forward pass: pictures stand at fixed places, so their
        tokens are put in place by slices rather than by a masked scatter.
        """
        embeds = self.model.model.text_model.embed_tokens(tokens)
        patch_loss = embeds.new_zeros(())
        if len(pixels):
            seen = self.see(pixels)
            patch_logits = self.patch_head(seen).float().flatten(0, 1)
            patch_loss = F.cross_entropy(patch_logits, patches.flatten(), self.patch_weights)
            shown = self.model.model.connector(seen)
            embeds = self._with_pictures(embeds, shown.to(embeds.dtype))
        hidden = self.model.model.text_model(inputs_embeds=embeds, use_cache=False)[0]
        logits = self.model.lm_head(hidden[:, -MAX_TEXT_TOKENS:]).float().flatten(0, 1)
        wanted = targets[:, -MAX_TEXT_TOKENS:].flatten()
        loss = F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
        return loss, patch_loss, (logits.argmax(-1) == wanted).sum()

    def _with_pictures(self, embeds: Tensor, shown: Tensor) -> Tensor:
        num_images = len(shown) // len(embeds)
        shown = shown.unflatten(0, (len(embeds), num_images))
        pieces, start = [], 0
        for image in range(num_images):
            first = 1 + image * (NUM_IMAGE_TOKENS + 3) + 2
            pieces += [embeds[:, start:first], shown[:, image]]
            start = first + NUM_IMAGE_TOKENS
        return torch.cat([*pieces, embeds[:, start:]], dim=1)


def _stream(num_images: int, recipe: Recipe, seed: int) -> Iterator[Question]:
    """Yield questions with the given number of pictures, for ever."""
    tasks = [name for name in TASKS if num_pictures(name) == num_images]
    round_ = 0
    while True:
        round_ += 1
        chunk_seed = seed * 1_000_000 + num_images * 100_000 + round_
        yield from generate(
            5000,
            seed=chunk_seed,
            tasks=tasks,
            speciality_weights=recipe.speciality_weights,
            task_weights=recipe.task_weights,
        )


def num_pictures(task: str) -> int:
    """Return how many pictures a task's questions have."""
    return 0 if task.startswith("text_") else 2 if task.startswith("pair_") else 1


def _optimizers(learner: Learner) -> list[torch.optim.Optimizer]:
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in learner.named_parameters():
        is_inner = parameter.ndim == 2 and ("layers." in name or "connector" in name)  # noqa: PLR2004 - a matrix
        (matrices if is_inner else rest).append(parameter)
    return [
        Muon(matrices, rate=MUON_RATE),
        torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_factor(step: int, num_steps: int) -> float:
    """Return the learning rate's factor: linear warm-up, level for 40 %, then linear to zero."""
    level_until = 0.4 * num_steps
    decay = (num_steps - step) / (num_steps - level_until)
    return min((step + 1) / WARMUP_STEPS, 1.0, max(decay, 0.01))


class Trainer:
    """A learner with its optimisers and its endless questions."""

    def __init__(self, learner: Learner, collate: Collator, recipe: Recipe, seed: int) -> None:
        """Compile the learner; the questions depend on the seed and the recipe's weights."""
        self._learner, self._collate = learner, collate
        self._fast = torch.compile(learner, dynamic=False)
        self._streams = [_stream(number, recipe, seed) for number in range(3)]
        self._optimizers = _optimizers(learner)
        self._rates = [optimizer.param_groups[0]["lr"] for optimizer in self._optimizers]

    def step(self, step: int, factor: float) -> Progress:
        """Take one optimiser step.

        Two-picture and text-only questions take turns: a small batch costs nearly as much as a
        large one, and is not worth compiling.

        Args:
            step: Its number, whose parity says whose turn it is.
            factor: Of the learning rates.
        """
        rare = self._batch(2 * (step % 2), NUM_RARE)
        usual = self._batch(1, NUM_ONE_IMAGE)
        num_tokens = sum(int((batch.targets != IGNORED).sum()) for batch in (usual, rare))
        num_rare_right, _ = self._backward(self._learner, rare, num_tokens)
        num_right, patch_loss = self._backward(self._fast, usual, num_tokens)
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
        self._learner.zero_grad(set_to_none=True)
        return Progress(num_right + num_rare_right, num_tokens, patch_loss)

    def _batch(self, num_images: int, size: int) -> Batch:
        return self._collate([next(self._streams[num_images]) for _ in range(size)])

    @staticmethod
    def _backward(run: Callable[..., Losses], batch: Batch, num_tokens: int) -> tuple[int, float]:
        with torch.autocast("cpu", torch.bfloat16):
            loss, patch_loss, num_right = run(
                batch.pixels, batch.patches, batch.tokens, batch.targets
            )
        share = len(batch.tokens) / (NUM_ONE_IMAGE + NUM_RARE)
        (loss / num_tokens + PATCH_LOSS_WEIGHT * share * patch_loss).backward()
        return int(num_right), float(patch_loss)


def train(candidate: str, *, num_steps: int, seed: int, resume: bool) -> None:
    """Train a candidate and write its folder, now and then on the way as well.

    Args:
        candidate: A key of `RECIPES`.
        num_steps: Optimiser steps; the learning rate falls to nothing over them.
        seed: Of the initial weights and the questions.
        resume: Start from the weights in the folder instead of fresh ones.
    """
    folder, recipe = WEIGHTS / candidate, RECIPES[candidate]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder) if resume else build_tokenizer()
    model = build_model(recipe, tokenizer, seed=seed)
    past: dict[str, float] = {"steps": 0, "cpu_s": 0}
    if resume:
        model.load_state_dict(load_file(folder / "model.safetensors"))
        past = json.loads((folder / "training.json").read_text())
    trainer = Trainer(Learner(model), Collator(tokenizer), recipe, seed + 1)
    start_s, recent = time.monotonic(), []
    for step in range(num_steps):
        recent.append(trainer.step(step, rate_factor(step, num_steps)))
        if (step + 1) % LOG_STEPS == 0:
            _report(candidate, recent, step + 1, num_steps, time.monotonic() - start_s)
            recent = []
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == num_steps:
            save(model, tokenizer, folder)
            _note(candidate, step + 1, seed, past)


def _report(
    candidate: str, recent: list[Progress], num_done: int, num_steps: int, elapsed_s: float
) -> None:
    """Log the last steps, with the time elapsed and expected."""
    log.info(
        "%s step %d/%d  %.0f s of %.0f s (cpu %.0f s)  right tokens %.3f  patch loss %.3f",
        candidate,
        num_done,
        num_steps,
        elapsed_s,
        elapsed_s * num_steps / num_done,
        time.process_time(),
        sum(p.num_right for p in recent) / sum(p.num_tokens for p in recent),
        recent[-1].patch_loss,
    )


def _note(candidate: str, num_steps: int, seed: int, past: Mapping[str, float]) -> None:
    """Write what the model card says about the training, former rounds included."""
    recipe = RECIPES[candidate]
    total_steps = num_steps + int(past["steps"])
    facts = {
        "steps": total_steps,
        "resumed_at_step": int(past["steps"]),
        "seed": seed,
        "samples": total_steps * (NUM_ONE_IMAGE + NUM_RARE),
        "speciality_weights": dict(recipe.speciality_weights),
        "task_weights": dict(recipe.task_weights),
        "cpu_s": round(time.process_time() + past["cpu_s"]),
    }
    (WEIGHTS / candidate / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("candidate", choices=sorted(RECIPES))
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the shipped weights")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    num_steps = arguments.steps or RECIPES[arguments.candidate].num_steps
    train(arguments.candidate, num_steps=num_steps, seed=arguments.seed, resume=arguments.resume)


if __name__ == "__main__":
    main()
