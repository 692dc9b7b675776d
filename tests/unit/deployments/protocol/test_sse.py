"""Events read the same however they are cut, and leave as OpenAI's clients expect them."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.protocol import (
    DONE,
    ChunkWriter,
    EventParser,
    Receipt,
    error_event,
    event,
    read_events,
)
from deployments.protocol.sse import MAX_EVENT_CHARS
from router.errors import CandidateReplyError, NoCandidateError

RECEIPT = Receipt(
    decision_id="d1", candidate_id="a", router_version="7", predicted_quality=None, policy="pinned"
)

payloads = st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers(), max_size=3)
line_ends = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw):
    """Draw events, a text that holds them, and that text cut into pieces."""
    events = draw(st.lists(payloads, max_size=5))
    end = draw(line_ends)
    noise = draw(st.sampled_from(["", f": ping{end}", f"id: 1{end}", f": ping{end}{end}"]))
    text = "".join(
        f"{noise}data: {json.dumps(one, ensure_ascii=False)}{end}{end}" for one in events
    )
    text += draw(st.sampled_from(["", f"data: [DONE]{end}{end}", f"data:[DONE]{end}"]))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    bounds = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(bounds)]
    return events, pieces


@settings(deadline=None)  # the clock of a busy machine proves nothing
@given(streams())
def test_cuts_do_not_matter(stream):
    """The same events come out, wherever the text is cut and whatever ends its lines."""
    events, pieces = stream
    parser = EventParser()
    read = [one for piece in pieces for one in parser.feed(piece)] + parser.close()
    assert read == events


async def feed(*pieces):
    """Yield pieces as a candidate would."""
    for piece in pieces:
        yield piece


async def test_lists_and_several_events_a_piece_are_read():
    """Strings with many events, and lists of strings, are all the same stream."""
    source = feed('data: {"a":1}\n\ndata: {"a":2}\n\n', ['data: {"a"', ":3}\n\n"], DONE)
    assert [one async for one in read_events(source)] == [{"a": 1}, {"a": 2}, {"a": 3}]


async def test_a_stream_may_end_without_its_last_blank_line():
    """The event at the very end counts even if its blank line was cut off."""
    assert [one async for one in read_events(feed('data: {"a":1}'))] == [{"a": 1}]


def test_data_of_several_lines_is_one_event():
    """Lines of data belong together until the blank line."""
    assert EventParser().feed('data: {"a":\ndata: 1}\n\n') == [{"a": 1}]


def test_nothing_counts_after_done():
    """What follows ``[DONE]`` is passed over, in the same piece or a later one."""
    parser = EventParser()
    assert parser.feed(f'{DONE}data: {{"a":1}}\n\n') == []
    assert parser.is_done
    assert parser.feed('data: {"a":1}\n\n') + parser.close() == []


@pytest.mark.parametrize("text", ["data: {oops\n\n", "data: [1]\n\n"])
def test_what_is_no_object_is_the_candidates_fault(text):
    """An event that is not a JSON object is an error, not a skipped event."""
    with pytest.raises(CandidateReplyError):
        EventParser().feed(text)


def test_an_endless_event_is_refused():
    """A candidate that never ends its line cannot fill the memory."""
    parser = EventParser()
    for _ in range(MAX_EVENT_CHARS // 4096):
        parser.feed("x" * 4096)
    with pytest.raises(CandidateReplyError, match="longer than"):
        parser.feed("x")


def sent(writer, *chunks):
    """Return what the writer sends for chunks, as dicts."""
    events = [writer.write(chunk) for chunk in chunks]
    return [json.loads(one.removeprefix("data: ")) for one in events if one]


CHUNKS = [
    {"choices": [{"delta": {"role": "assistant"}}], "usage": None},
    {"choices": [{"delta": {"content": "Hi"}}], "usage": {"total_tokens": 3}},
    {"choices": [], "usage": {"total_tokens": 4}},
]


def test_the_first_chunk_alone_carries_the_receipt():
    """The receipt is in the first chunk that the user sees."""
    first, *others = sent(ChunkWriter(RECEIPT, include_usage=True), *CHUNKS)
    assert first["pointsman"]["decision_id"] == "d1"
    assert others == CHUNKS[1:]


def test_usage_is_kept_from_who_did_not_ask():
    """Without the wish the usage chunk is dropped and the key is cut from the others."""
    chunks = sent(ChunkWriter(RECEIPT, include_usage=False), *CHUNKS)
    assert len(chunks) == 2
    assert not any("usage" in chunk for chunk in chunks)


def test_an_error_in_a_stream_has_openais_form():
    """A client that is reading events gets the error object as one."""
    text = error_event(NoCandidateError({}))
    assert EventParser().feed(text)[0]["error"]["code"] == "no_candidate_available"


def test_events_are_ascii():
    """Half a surrogate pair from a candidate's tokenizer cannot break the encoding."""
    assert event({"a": "\ud83d"}).encode("ascii") == b'data: {"a":"\\ud83d"}\n\n'
