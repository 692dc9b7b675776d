"""The maker of the generated documents."""

from __future__ import annotations

import pytest

from infra import docs


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        ("Step 4, mask: which candidates may serve", [4]),
        ("Step 5, second half: one candidate", [5]),
        ("Steps 3 to 5: from features to a decision.", [3, 4, 5]),
        ("Steps 9 and 10: fetch and swap", [9, 10]),
        ("Step by step", []),
        ("The error tree.", []),
    ],
)
def test_steps_are_read_from_the_first_line(line, steps):
    """A module belongs to the steps that its first line begins with."""
    assert list(docs.step_numbers(line)) == steps


def test_only_the_marked_part_is_replaced():
    """What stands around a generated part is left as it is."""
    mark = docs.MARK.format(name="tree")
    text = f"before\n{mark}old\n{docs.END}\nafter\n"
    assert docs.replace_part(text, "tree", "new\n") == f"before\n{mark}new\n{docs.END}\nafter\n"


@pytest.mark.parametrize("text", ["no mark", docs.MARK.format(name="tree") + "no end"])
def test_lost_marks_are_an_error(text):
    """A document that lost its marks is refused, not overwritten."""
    with pytest.raises(docs.DocsError):
        docs.replace_part(text, "tree", "new\n")


def test_dead_links_and_unknown_targets_are_named(tmp_path, monkeypatch):
    """A link to nothing and a make target that does not exist are faults; web links are not."""
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "[a](gone.md) [b](page.md#part) [c](https://example.com) `make tea` `make test`"
    )
    assert docs.broken_references(page, ["test"]) == [
        "page.md: gone.md does not exist",
        "page.md: make tea does not exist",
    ]
