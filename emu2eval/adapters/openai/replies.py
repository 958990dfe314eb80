"""A server's reply as a response: text, thought and images apart, why it ended, who served it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from emu2eval.adapters.openai.client import Refused, usage
from emu2eval.adapters.thought import separated
from emu2eval.types import Image, Mark, Response

UNFINISHED = frozenset({"length", "content_filter"})
"""Ends after which an empty text is no answer."""


def read(reply: Mapping[str, Any]) -> Response:
    """What a chat reply holds. Raises Refused where it holds no message.

    A thought stands in a field of its own (vLLM, SGLang, DeepSeek: `reasoning_content`; OpenRouter:
    `reasoning`), in parts of its own (Mistral), or in the text between <think> and </think>. An error where
    there is neither text nor image, or only an empty text that was cut off or filtered.
    """
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        content = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Refused("the reply holds no message") from None
    end = choice.get("finish_reason")
    ended = end if isinstance(end, str) else None
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    listed = (
        [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
    )
    texts, thoughts = list(_texts(listed)), list(_thoughts(message, listed))
    raw = "".join(texts) if texts else message.get("refusal")
    found = separated(
        Response(
            text=raw if isinstance(raw, str) else None,
            thought="".join(thoughts) or None,
            images=tuple(_images(message, listed)),
            ended=ended,
        )
    )
    return replace(found, error=_problem(found))


def told(replies: Sequence[Mapping[str, Any]], response: Response) -> Response:
    """The response with the names of the servers and the tokens that they counted."""
    counted = [count for count in map(usage, replies) if count is not None]
    servers = {
        " ".join(str(reply[name]) for name in ("model", "system_fingerprint") if reply.get(name))
        for reply in replies
    }
    marks = tuple(Mark("server", server) for server in sorted(servers) if server)
    return replace(
        response,
        tokens_in=sum(read for read, _ in counted) if counted else None,
        tokens_out=sum(written for _, written in counted) if counted else None,
        marks=(*response.marks, *marks),
    )


def _problem(found: Response) -> str | None:
    if found.images or found.text or (found.text is not None and found.ended not in UNFINISHED):
        return None
    hint = ""
    if found.ended == "length":
        hint = "; model.settings.thinking gives it more tokens"
    return f"the reply holds no text (it ended by {found.ended!r}){hint}"


def _texts(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for part in parts:
        if part.get("type", "text") in ("text", "output_text") and isinstance(
            part.get("text"), str
        ):
            yield part["text"]


def _thoughts(message: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str) and message[name]:
            yield message[name]
            return  # some servers give the same under both names
    for part in parts:
        kind = part.get("type")
        if kind in ("thinking", "reasoning"):
            said = part.get(kind) or part.get("text")
            inner = said if isinstance(said, list) else [{"text": said}]
            yield from _texts([each for each in inner if isinstance(each, Mapping)])


def _images(message: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> Iterator[Image]:
    """Those whose bytes the reply holds; links are not followed."""
    more = message.get("images")
    for part in (*parts, *(more if isinstance(more, list) else ())):
        shown = part.get("image_url") if isinstance(part, Mapping) else None
        url = shown.get("url") if isinstance(shown, Mapping) else shown
        if isinstance(url, str) and url.startswith("data:image/"):
            try:
                yield Image(data=base64.b64decode(url.partition(";base64,")[2], validate=True))
            except binascii.Error:
                raise Refused("an image of the reply is not in base64") from None
