"""A server's reply as a response: text, thought and images apart, why it ended, who served it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from emu2eval.adapters.openai.client import MOST_WORDS, Refused
from emu2eval.adapters.openai.failures import is_failure, one_line, stated
from emu2eval.adapters.openai.ledger import usage
from emu2eval.adapters.thought import UNCLOSED, separated
from emu2eval.types import Image, Mark, Response

COMPLETE = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete"})
"""Ends, in small letters, after which an empty text is an answer: the model had nothing to say."""

_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
"""Fields of a message for its thought: vLLM, SGLang, DeepSeek; OpenRouter; Ollama; LiteLLM."""


def read(reply: Mapping[str, Any], *, thinks: bool = False) -> Response:
    """What a chat reply holds. Raises Refused where it holds no message.

    A thought stands in a field of its own, in parts of its own (Mistral), or in the text between tags
    (`adapters.thought`). thinks: the model is known to think, so that a text which was cut off before any
    sign of a thought's end is thought. An error where the reply says that it failed, whatever else it holds,
    where a thought was never closed, and where there is neither image nor text; an empty text that the
    model ended itself is an answer. What came with an error is kept as `raw`.
    """
    failed = stated(reply)
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        content = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        why = failed.words if failed is not None else f"it contains no message: {json.dumps(reply)}"
        raise Refused(_told(why)) from None
    end = choice.get("finish_reason")
    ended = end if isinstance(end, str) else None
    listed = list(_parts(content))
    raw = _joined(_texts(listed))
    if raw is None:
        raw = message.get("refusal")
    thought = _joined(_thoughts(message, listed))
    found = separated(
        Response(
            text=raw if isinstance(raw, str) else None,
            thought=thought or None,
            images=tuple(_images(message, listed)),
            ended=ended,
        ),
        opened=thinks and not thought and ended == "length",
    )
    problem = _told(failed.words) if failed is not None else _problem(found)
    if problem is None:
        return replace(found, error=None)
    return replace(found, text=None, raw=found.raw or found.text, error=problem)


def sound(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """The reply. Raises Refused where it says that it failed."""
    failed = stated(reply)
    if failed is not None:
        raise Refused(_told(failed.words))
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    ended = first.get("finish_reason") if isinstance(first, Mapping) else None
    if isinstance(ended, str) and is_failure(ended):
        raise Refused(_ended_by(ended))
    return reply


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


def _told(words: str) -> str:
    return f"the server reports an error in its reply: {words}"[:MOST_WORDS]


def _ended_by(ended: str, text: str | None = None) -> str:
    said = f": {one_line(text)}" if text and text.strip() else ""
    return f"the server ended the reply with {ended!r}{said}"[:MOST_WORDS]


def _problem(found: Response) -> str | None:
    """Why a reply that states no failure is no answer; None where it is one."""
    ended = found.ended
    if ended is not None and is_failure(ended):
        return _ended_by(ended, found.text)
    if found.images or (found.text or "").strip():
        return None
    hint = "; to allow more tokens, set model.settings.thinking" if ended == "length" else ""
    if found.error == UNCLOSED:
        return f"{UNCLOSED} (it ended with {ended!r}){hint}"
    # Beside a thought in a field of its own, nobody knows whether that thought was closed.
    closed = found.thought is None or found.raw is not None
    if found.text is not None and closed and (ended or "").lower() in COMPLETE:
        return None
    return f"the reply contains no text (it ended with {ended!r}){hint}"


def _parts(content: Any) -> Iterator[Mapping[str, Any]]:
    """The parts of a message's content, which may be a text, a part or a list of both."""
    for each in content if isinstance(content, list) else [content]:
        if isinstance(each, str):
            yield {"type": "text", "text": each}
        elif isinstance(each, Mapping):
            yield each


def _is_thought(part: Mapping[str, Any]) -> bool:
    kind = str(part.get("type", "")).lower()
    return part.get("thought") is True or any(w in kind for w in ("think", "reason", "thought"))


def _texts(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for part in parts:
        kind = part.get("type", "text")
        if kind in ("text", "output_text", "refusal") and not _is_thought(part):
            said = part.get("refusal") if kind == "refusal" else part.get("text")
            if isinstance(said, str):
                yield said


def _thoughts(message: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for name in _THOUGHTS:
        said = list(_said(message.get(name)))
        if said:
            yield from said
            return  # some servers give the same under several names
    for part in parts:
        if _is_thought(part):
            yield from _said(part)


def _said(value: Any) -> Iterator[str]:
    """The texts of a thought: of a text, of a part, of a list of parts."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _said(each)
    elif isinstance(value, Mapping):
        named = (
            value.get(name) for name in ("thinking", "reasoning", "text", "summary", "content")
        )
        yield from _said(next((each for each in named if each), None))


def _joined(texts: Iterator[str]) -> str | None:
    found = list(texts)
    return "".join(found) if found else None


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
                raise Refused("an image in the reply is not base64") from None
