"""Step 1, request: read the messages, and write them again with bytes in place of URLs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import TYPE_CHECKING, Any

import pybase64

from deployments.protocol.body import describe, expect
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from router.features.picture import EncodedPicture

ROLES = ("system", "developer", "user", "assistant", "tool")
PART_KEYS = {
    "text": frozenset({"type", "text"}),
    "refusal": frozenset({"type", "refusal"}),
    "image_url": frozenset({"type", "image_url"}),
}
"""Keys of a content part by its type. Others are refused: an engine may read them, such as
vLLM's ``uuid``, under which one user could plant a picture in another's cache."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image is to be had."""

    url: str = attribute(repr=False)
    """A data URL or an address, as the user sent it."""

    field: str
    """Its path in the request, such as ``messages.0.content.1.image_url.url``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What the router needs to know of all messages."""

    question_text: str = attribute(repr=False)
    """Text of the last user message."""

    num_chars: int
    """Characters of text in all messages, tool calls included."""

    image_refs: tuple[ImageRef, ...]
    """Images of all messages, in order."""


@dataclass(slots=True)
class _Notes:
    """What has been read so far of one message."""

    texts: list[str]
    images: list[ImageRef]


def read_messages(value: object) -> Transcript:
    """Return what the messages hold.

    Args:
        value: The JSON value under ``messages``.

    Raises:
        InvalidInputError: If it is not a list of messages with text and images; names the path.
    """
    messages = expect(value, list, "messages", "send a list of messages")
    if not messages:
        raise InvalidInputError("messages is empty; send at least one message", "messages")
    question, num_chars, images = "", 0, []
    for i, message in enumerate(messages):
        notes = _read_message(message, f"messages.{i}")
        num_chars += sum(map(len, notes.texts))
        images += notes.images
        if message["role"] == "user":
            question = "\n".join(notes.texts)
    return Transcript(question_text=question, num_chars=num_chars, image_refs=tuple(images))


def with_pictures(
    messages: Sequence[dict[str, Any]], pictures: Sequence[EncodedPicture]
) -> list[dict[str, Any]]:
    """Return the messages with every image as a data URL of the bytes that were fetched.

    Args:
        messages: Messages that `read_messages` accepted; left as they are.
        pictures: One for each image, in order.
    """
    remaining = iter(pictures)
    return [_with_pictures(message, remaining) for message in messages]


def _with_pictures(message: dict[str, Any], remaining: Iterator[EncodedPicture]) -> dict[str, Any]:
    """Return one message, its images taken off the remaining pictures."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_filled(part, remaining) for part in content]}


def _filled(part: dict[str, Any], remaining: Iterator[EncodedPicture]) -> dict[str, Any]:
    """Return one part; an image takes the next picture and keeps its detail."""
    if part["type"] != "image_url":
        return part
    picture = next(remaining)
    return {
        "type": "image_url",
        "image_url": {**part["image_url"], "url": _url(part["image_url"]["url"], picture)},
    }


def _url(sent: str, picture: EncodedPicture) -> str:
    """Return the data URL of a picture: the user's own if it is one, and says the true type."""
    head = f"data:{picture.media_type};base64,"
    num_chars = len(head) + 4 * ((len(picture.data) + 2) // 3)
    if len(sent) == num_chars and sent.startswith(head):  # so it holds no blanks either
        return sent
    return head + pybase64.b64encode(picture.data).decode("ascii")


def _read_message(value: object, path: str) -> _Notes:
    """Return texts and images of one message."""
    message = expect(value, dict, path, "send an object with role and content")
    _check_role(message, path)
    notes = _Notes(texts=[], images=[])
    tool_calls = message.get("tool_calls")
    content = message.get("content")
    if isinstance(content, list):
        _read_parts(content, f"{path}.content", notes)
    elif isinstance(content, str):
        notes.texts.append(content)
    elif content is not None or message["role"] != "assistant":
        raise InvalidInputError(
            f"{path}.content must be a string or an array of parts, got {describe(content)}; "
            "send the text of the message",
            f"{path}.content",
        )
    if tool_calls is not None:
        calls = expect(tool_calls, list, f"{path}.tool_calls", "send the calls as received")
        notes.texts.append(json.dumps(calls))
    return notes


def _check_role(message: dict[str, Any], path: str) -> None:
    """Refuse a role that is missing or unknown."""
    role = expect(message.get("role"), str, f"{path}.role", f"send one of {', '.join(ROLES)}")
    if role not in ROLES:
        raise InvalidInputError(
            f"{path}.role is {role[:40]!r}; send one of {', '.join(ROLES)}", f"{path}.role"
        )


def _read_parts(parts: list[Any], path: str, notes: _Notes) -> None:
    """Note the texts and images of a content array."""
    if not parts:
        raise InvalidInputError(f"{path} is empty; send at least one part", path)
    for i, part in enumerate(parts):
        _read_part(part, f"{path}.{i}", notes)


def _read_part(value: object, path: str, notes: _Notes) -> None:
    """Note the text or the image of one content part."""
    part = expect(value, dict, path, 'send an object such as {"type": "text", "text": "..."}')
    kind = expect(part.get("type"), str, f"{path}.type", "send text or image_url")
    if kind not in PART_KEYS:
        raise InvalidInputError(
            f"{path}.type is {kind[:40]!r}, which is not supported; send text or image_url",
            f"{path}.type",
        )
    _refuse_other_keys(part, PART_KEYS[kind], path)
    if kind == "image_url":
        notes.images.append(_read_image(part.get("image_url"), f"{path}.image_url"))
    else:
        notes.texts.append(expect(part.get(kind), str, f"{path}.{kind}", "send the text"))


def _read_image(value: object, path: str) -> ImageRef:
    """Return the reference that an image part holds."""
    image = expect(value, dict, path, 'send an object such as {"url": "https://..."}')
    _refuse_other_keys(image, frozenset({"url", "detail"}), path)
    if image.get("detail") is not None:
        expect(image["detail"], str, f"{path}.detail", "send auto, low or high")
    url = expect(image.get("url"), str, f"{path}.url", "send a data URL or an https URL")
    return ImageRef(url=url, field=f"{path}.url")


def _refuse_other_keys(value: dict[str, Any], known: frozenset[str], path: str) -> None:
    """Refuse keys that this protocol does not know."""
    if unknown := sorted(value.keys() - known):
        name = f"{path}.{unknown[0][:40]}"
        raise InvalidInputError(
            f"{name} is not known; remove it, known are {', '.join(sorted(known))}", name
        )
