"""The shipped candidates are complete, small, and described."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import infra.zoo

WEIGHTS = Path(infra.zoo.__file__).parent / "weights"
CANDIDATES = ("reader", "charter", "scene", "generalist")
NEEDED = (
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.json",
)
MAX_BYTES = 16 * 2**20


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_folder_is_complete(candidate):
    """Everything that transformers and vLLM load is there, and so is the card."""
    missing = [name for name in NEEDED if not (WEIGHTS / candidate / name).is_file()]
    assert not missing


def test_the_weights_stay_small():
    """All folders together fit in 16 MiB."""
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= MAX_BYTES


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_reply_ends_at_the_end_token(candidate):
    """Generation is greedy and stops at the end token, without any request option."""
    folder = WEIGHTS / candidate
    generation = json.loads((folder / "generation_config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    assert generation["eos_token_id"] == ids["<end_of_utterance>"]
    assert generation["top_k"] == 1
    assert generation["max_new_tokens"] <= 16


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_card_says_what_the_model_is_good_at(candidate):
    """A card has front matter, an accuracy table and limitations."""
    card = (WEIGHTS / candidate / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0")
    assert "## Accuracy" in card
    assert "## Limitations" in card
