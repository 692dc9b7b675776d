"""The four candidates: their sizes, tokenizer, processor, chat template and folder on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from infra.zoo.questions import generate
from infra.zoo.questions.canvas import PATCH, SIDE

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS: Final = Path(__file__).parent / "weights"
SCALE_FACTOR: Final = 2
NUM_IMAGE_TOKENS: Final = (SIDE // PATCH // SCALE_FACTOR) ** 2
MAX_POSITIONS: Final = 512
VOCABULARY_SIZE: Final = 1024

PAD, BOS, EOS, ANSWER = "<pad>", "<s>", "<end_of_utterance>", "<answer>"
IMAGE, FAKE, GLOBAL = "<image>", "<fake_token_around_image>", "<global-img>"
SPECIAL_TOKENS: Final = (PAD, BOS, EOS, ANSWER, IMAGE, FAKE, GLOBAL)

CHAT_TEMPLATE: Final = """\
{{- '<s>' -}}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{%- if message['content'] is string -%}
{{- message['content'] | trim -}}
{%- else -%}
{%- for content in message['content'] -%}
{%- if content['type'] in ['image', 'image_url'] -%}{{- '<image>' -}}{%- endif -%}
{%- endfor -%}
{%- for content in message['content'] -%}
{%- if content['type'] == 'text' -%}{{- content['text'] | trim -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<answer>' -}}
{%- elif message['role'] == 'assistant' -%}
{%- if message['content'] is string -%}
{{- message['content'] | trim -}}
{%- else -%}
{%- for content in message['content'] -%}
{%- if content['type'] == 'text' -%}{{- content['text'] | trim -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<end_of_utterance>' -}}
{%- endif -%}
{%- endfor -%}
"""
"""Pictures first, then text, whatever order the parts come in; system messages are ignored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How one candidate is built and trained."""

    hidden_size: int
    """Width of both towers; a multiple of 32, the width of an attention head."""
    num_layers: int
    """Layers of the vision tower, and again of the language model."""
    speciality_weights: Mapping[str, float]
    """How often each speciality is trained on, relative to the others; all positive."""
    num_steps: int
    """Optimiser steps."""
    task_weights: Mapping[str, float] = field(default_factory=dict)
    """Factor on the share of tasks that are slow to learn."""


RECIPES: Final[dict[str, Recipe]] = {
    "reader": Recipe(
        hidden_size=128,
        num_layers=3,
        speciality_weights={"reader": 0.96, "charter": 0.02, "scene": 0.02},
        num_steps=1000,
    ),
    "charter": Recipe(
        hidden_size=128,
        num_layers=3,
        speciality_weights={"reader": 0.05, "charter": 0.9, "scene": 0.05},
        num_steps=1000,
    ),
    "scene": Recipe(
        hidden_size=128,
        num_layers=3,
        speciality_weights={"reader": 0.02, "charter": 0.02, "scene": 0.96},
        num_steps=1000,
        task_weights={"relation": 4.0},
    ),
    "generalist": Recipe(
        hidden_size=160,
        num_layers=4,
        speciality_weights={"reader": 1.0, "charter": 1.0, "scene": 1.0},
        num_steps=750,
    ),
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train the byte-level BPE tokenizer on what the generator says; the same every time."""
    questions = list(generate(6000, seed=20))
    corpus = [text for question in questions for text in (question.text, question.answer)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[ANSWER, IMAGE, FAKE, GLOBAL],
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """Build the processor: one 64 x 64 tile a picture, 16 image tokens."""
    edge = {"longest_edge": SIDE}
    image_processor = Idefics3ImageProcessorPil(
        do_image_splitting=False,
        size=edge,
        max_image_size=edge,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return Idefics3Processor(
        image_processor,
        tokenizer,
        image_seq_len=NUM_IMAGE_TOKENS,
        chat_template=CHAT_TEMPLATE,
    )


def build_config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Idefics3Config:
    """Return the architecture of a recipe."""
    ids: dict[str, Any] = {
        "pad_token_id": tokenizer.convert_tokens_to_ids(PAD),
        "bos_token_id": tokenizer.convert_tokens_to_ids(BOS),
        "eos_token_id": tokenizer.convert_tokens_to_ids(EOS),
    }
    width, heads = recipe.hidden_size, recipe.hidden_size // 32
    return Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        scale_factor=SCALE_FACTOR,
        tie_word_embeddings=False,
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": recipe.num_layers,
            "num_attention_heads": heads,
            "image_size": SIDE,
            "patch_size": PATCH,
            "initializer_range": 0.05,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": recipe.num_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": MAX_POSITIONS,
            "initializer_range": 0.05,
            "tie_word_embeddings": False,
            **ids,
        },
        **ids,
    )


def build_model(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, *, seed: int
) -> Idefics3ForConditionalGeneration:
    """Return a freshly initialised float32 model."""
    torch.manual_seed(seed)
    model = Idefics3ForConditionalGeneration(build_config(recipe, tokenizer))
    for name, parameter in model.named_parameters():
        if name.endswith("position_embedding.weight"):
            torch.nn.init.normal_(parameter, std=0.5)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def save(
    model: Idefics3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write a folder that transformers and vLLM load: bfloat16 weights, processor, template."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    config = Idefics3Config.from_dict(model.config.to_dict())
    config.dtype = torch.bfloat16
    shipped = Idefics3ForConditionalGeneration(config).to(torch.bfloat16)
    shipped.load_state_dict(state)
    shipped.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # vLLM takes its defaults from here, and knows no `do_sample`: top 1 is greedy for both.
        do_sample=True,
        top_k=1,
        max_new_tokens=16,
    )
    shipped.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    build_processor(tokenizer).save_pretrained(folder)
