"""What of a judge can be told without asking one."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.candidate import Price
from router.errors import InvalidInputError
from training.graders.judge import JudgeConfig, JudgeReplyError, parse_score
from training.graders.judge_file import open_judge, read_gold


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 0.5}', 0.5),
        (' {"score": 1, "reason": "right"}\n', 1.0),
        ('```json\n{"score": 0}\n```', 0.0),
        ("1", 1.0),
        ("0.25", 0.25),
        (".5", 0.5),
        ("1.0", 1.0),
        ('{"score": 1e-1}', 0.1),
    ],
)
def test_a_verdict_is_an_object_or_one_number(text, score):
    """Also in a code fence."""
    assert parse_score(text) == score


@pytest.mark.parametrize(
    "text",
    [
        "", "yes", "score: 1", "1 of 1", "2", "-1", "0.5 0.5", "[1]", "null", "NaN",
        '{"score": 1.1}', '{"score": "1"}', '{"score": true}', '{"score": NaN}', '{"grade": 1}',
        '{"score": 1} or {"score": 0}',
    ],
)  # fmt: skip
def test_anything_else_is_no_verdict(text):
    """A sentence, two numbers, a number out of bounds, a word instead of a number."""
    with pytest.raises(JudgeReplyError):
        parse_score(text)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text):
    """A score or the one error."""
    with suppress(JudgeReplyError):
        assert 0 <= parse_score(text) <= 1


def test_a_cap_needs_a_price():
    """Else nothing would ever be spent."""
    with pytest.raises(InvalidInputError, match="needs the judge's price"):
        JudgeConfig(url="http://x", model="m", spend_cap_usd=1.0)
    price = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=0.0)
    assert JudgeConfig(url="http://x", model="m", price=price, spend_cap_usd=1.0)


def test_gold_is_read_and_faults_are_named(tmp_path):
    """By file and row."""
    path = tmp_path / "gold.jsonl"
    path.write_text('{"question": "2+2?", "reply": "4", "gold_score": 1, "answer": "4"}\n\n')
    (gold,) = read_gold(path)
    assert (gold.question, gold.reply, gold.gold_score, gold.answer) == ("2+2?", "4", 1.0, "4")
    path.write_text(path.read_text() + '{"question": "2+2?", "reply": "4", "gold_score": 2}')
    with pytest.raises(InvalidInputError, match=r"gold\.jsonl, row 2, gold_score: "):
        read_gold(path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("url: http://x\nmodel: m\n", "judge.yaml, gold: Field required"),
        ("url: http://x\nmodel: m\ngold: g\ntemperature: 1\n", "judge.yaml, temperature: "),
        ("- a\n", "judge.yaml, content: "),
        ("a: [", "judge.yaml is no YAML"),
        ("url: http://x\nmodel: m\ngold: g.jsonl\n", r"g\.jsonl does not exist"),
    ],
)
def test_a_judge_file_with_a_fault_is_refused(tmp_path, text, fault):
    """A missing key, an unknown one, no object, no YAML, gold that is not there."""
    path = tmp_path / "judge.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=fault):
        open_judge(path)
