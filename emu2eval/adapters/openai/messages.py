"""Prompt -> chat messages: text and images in the order of the prompt, nothing left out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from heapq import heappop, heappush
from itertools import islice
from typing import Any

from emu2eval.adapters.openai.settings import Layout
from emu2eval.adapters.openai.urls import Url
from emu2eval.media import images
from emu2eval.types import Part, Prompt, Request, Video

Message = dict[str, Any]

IMAGE = f"image {secrets.token_hex(16)}"
"""Stands in messages where the URL of the next image goes: chance, so that no text can hold it."""


def messages(prompt: Prompt, layout: Layout, detail: str | None = None) -> list[Message]:
    """The conversation: demonstrations as turns of user and assistant, or all in one user message.

    Images are IMAGE, in reading order, with the protocol's `detail`.
    """
    found: list[Message] = []
    prompt = prompt.conversation()
    if prompt.system is not None:
        found.append({"role": "system", "content": prompt.system})
    if layout == "single":
        whole = replace(prompt, system=None).flat()
        return [*found, {"role": "user", "content": _content(whole, detail)}]
    for turn in prompt.turns:
        found.append({"role": "user", "content": _content(turn.ask, detail)})
        found.append({"role": "assistant", "content": plain(turn.reply)})
    found.append({"role": "user", "content": _content(prompt.query, detail)})
    return found


def body(fields: Message, shown: Iterable[Url]) -> list[bytes]:
    """The request as JSON in pieces, with each image's URL where its IMAGE stands.

    The URLs' bytes are those that were given: never escaped or copied into one long text, which costs
    more than to encode them.
    """
    texts = json.dumps(fields).encode().split(f'"{IMAGE}"'.encode())
    found = [texts[0]]
    for url, text in zip(shown, texts[1:], strict=True):
        found[-1] += b'"' + url.head
        found += [url.data] if url.data else []
        found.append(b'"' + text)
    return found


def plain(parts: Iterable[Part]) -> str:
    """Parts that are all texts as one; planning has refused any other."""
    texts = list(parts)
    assert all(isinstance(part, str) for part in texts)
    return "".join(map(str, texts))


def _content(parts: Iterable[Part], detail: str | None) -> str | list[Message]:
    listed = list(parts)
    if all(isinstance(part, str) for part in listed):
        return plain(listed)  # some servers know nothing but plain texts
    found: list[Message] = []
    for part in listed:
        if isinstance(part, str):
            found.append({"type": "text", "text": part})
        elif isinstance(part, Video):
            found += [_image(detail) for _ in part.frames]
        else:
            found.append(_image(detail))
    return found


def _image(detail: str | None) -> Message:
    shown = {"url": IMAGE} if detail is None else {"url": IMAGE, "detail": detail}
    return {"type": "image_url", "image_url": shown}


def alike_together(requests: Iterable[Request], ahead: int) -> Iterator[tuple[int, Request]]:
    """(place, request) with neighbours that begin alike, which a server finds in its own cache.

    Of `ahead` requests at a time, in rounds: the next is the first in order of those that are not before
    the last one given.
    """
    coming = enumerate(requests)
    known: list[tuple[int, list[str], int, Request]] = []
    turn: tuple[int, list[str]] = (0, [])

    def take() -> None:
        for place, request in islice(coming, 1):
            start = beginning(request.prompt)
            heappush(known, (turn[0] + ((turn[0], start) < turn), start, place, request))

    for _ in range(ahead):
        take()
    while known:
        number, start, place, request = heappop(known)
        turn = (number, start)
        yield place, request
        take()


def beginning(prompt: Prompt) -> list[str]:
    """What decides which prompts begin alike: texts and digests in reading order."""
    shown = []
    for part in prompt.parts():
        if isinstance(part, str):
            shown.append(part)
        else:
            frames = part.frames if isinstance(part, Video) else (part,)
            shown += [images.digest(frame) for frame in frames]
    return shown
