"""OpenAI's protocol, pure: what a user sends and what goes back, without a server."""

from deployments.protocol.body import parse_object
from deployments.protocol.call import AUTO, ChatCall, parse_chat_request
from deployments.protocol.errors import ErrorReply, error_reply
from deployments.protocol.messages import ImageRef
from deployments.protocol.query import parse_limit
from deployments.protocol.reply import Receipt, annotate, models_list, response_headers
from deployments.protocol.routing import RoutingFields
from deployments.protocol.sse import (
    DONE,
    ChunkWriter,
    EventParser,
    error_event,
    event,
    read_events,
)

__all__ = [
    "AUTO",
    "DONE",
    "ChatCall",
    "ChunkWriter",
    "ErrorReply",
    "EventParser",
    "ImageRef",
    "Receipt",
    "RoutingFields",
    "annotate",
    "error_event",
    "error_reply",
    "event",
    "models_list",
    "parse_chat_request",
    "parse_limit",
    "parse_object",
    "read_events",
    "response_headers",
]
