"""What is trained is what is served: same prompts, same forward pass."""

from __future__ import annotations

import pytest
import torch

from infra.zoo.evaluate import messages
from infra.zoo.models import RECIPES, Recipe, build_model, build_processor, build_tokenizer
from infra.zoo.muon import orthogonal
from infra.zoo.questions import SPECIALITIES, generate
from infra.zoo.train import IGNORED, MAX_TEXT_TOKENS, Collator, Learner, rate_factor

QUESTIONS = tuple(generate(400, seed=8))
SMALL = Recipe(
    hidden_size=32, num_layers=1, speciality_weights=dict.fromkeys(SPECIALITIES, 1.0), num_steps=1
)


@pytest.fixture(scope="module")
def tokenizer():
    """Build the tokenizer once."""
    return build_tokenizer()


@pytest.fixture(scope="module")
def processor(tokenizer):
    """Build the processor once."""
    return build_processor(tokenizer)


def some(num_images, num_questions=4):
    """Pick questions with the given number of pictures."""
    return [q for q in QUESTIONS if len(q.images) == num_images][:num_questions]


def prompt(processor, content, *, system=None):
    """Render one user turn, and maybe a system message, with the chat template."""
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": content})
    return processor.apply_chat_template(turns, add_generation_prompt=True)


def test_pictures_come_first_whatever_the_order(processor):
    """Parts in any order, and a system message, give the prompt that was trained on."""
    text, image = {"type": "text", "text": "What is shown here?"}, {"type": "image"}
    expected = "<s><image><image>What is shown here?<answer>"
    for content in ([image, image, text], [text, image, image], [image, text, image]):
        assert prompt(processor, content) == expected
        assert prompt(processor, content, system="Be brief.") == expected


def test_text_alone_may_be_a_string(processor):
    """A string is the same as one text part."""
    assert prompt(processor, " What is 1 plus 2? ") == "<s>What is 1 plus 2?<answer>"


@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_training_and_serving_read_the_same_tokens(tokenizer, processor, num_images):
    """The collator's prompt is what the processor makes of the chat messages."""
    collate = Collator(tokenizer)
    for question in some(num_images):
        text = processor.apply_chat_template(messages(question), add_generation_prompt=True)
        images = [list(question.images)] if num_images else None
        served = processor(text=[text], images=images, return_tensors="pt")["input_ids"][0]
        assert collate([question]).tokens[0, : len(served)].tolist() == served.tolist()


@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_the_learner_s_loss_is_the_model_s_own(tokenizer, processor, num_images):
    """The fast forward pass of training equals transformers' on what the processor makes."""
    model = build_model(SMALL, tokenizer, seed=0).eval()
    questions = some(num_images, num_questions=2)
    batch = Collator(tokenizer)(questions)
    with torch.no_grad():
        loss, _, _ = Learner(model)(batch.pixels, batch.patches, batch.tokens, batch.targets)
        inputs = {}
        if num_images:
            pixels = processor.image_processor([list(q.images) for q in questions])
            inputs["pixel_values"] = torch.as_tensor(pixels["pixel_values"])
        logits = model(input_ids=batch.tokens, **inputs).logits
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_every_question_fits(tokenizer):
    """Question, answer and end never exceed the fixed length."""
    for question in QUESTIONS:
        ids = tokenizer.encode(question.text + question.answer, add_special_tokens=False)
        assert len(ids) + 2 <= MAX_TEXT_TOKENS


def test_any_text_survives_the_tokenizer(tokenizer):
    """What the generator never says is read byte by byte, without an unknown token."""
    text = "¿cuántos gatos? 猫"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_rate_warms_up_and_falls():
    """Of 100 steps: 1/20 at the first, 1 at step 30, one half at step 70, 1/60 at the last."""
    factors = [rate_factor(step, 100) for step in (0, 30, 70, 99)]
    assert factors == pytest.approx([0.05, 1.0, 0.5, 1 / 60])


@pytest.mark.parametrize("shape", [(2, 16, 16), (3, 32, 8), (1, 8, 32)])
def test_muon_makes_updates_nearly_orthogonal(shape):
    """All singular values end up between 0.3 and 1.4."""
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices).float())
    assert values.min() > 0.3
    assert values.max() < 1.4


def test_recipes_see_every_speciality():
    """Every candidate is trained at least a little on everything, so it errs plausibly."""
    for recipe in RECIPES.values():
        assert set(recipe.speciality_weights) == set(SPECIALITIES)
        assert min(recipe.speciality_weights.values()) > 0
