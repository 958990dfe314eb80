"""A plain function as a model: it is given a prompt and says something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.types import Image, Prompt, Request, Response

Said = str | Image | Response
"""What a function may return: a text, an image (also one of Pillow), or a whole response."""

_tokens: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


class FunctionAdapter(Adapter):
    """Calls `function(prompt)` for each request, one after the other.

    version: together with the name, identifies its behaviour; without one, answers are valid only in
    this process.
    """

    limits = Limits(frozenset({"text", "image"}), batch=1)

    def __init__(self, function: Callable[[Prompt], Said], version: str | None = None):
        self._function = function
        self._version = version

    def identity(self) -> Mapping[str, Any]:
        return token_of(self._function) if self._version is None else {"version": self._version}

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        return [_response(self._function(request.prompt)) for request in requests]


def token_of(given: object) -> dict[str, str]:
    """What stands for an object that nothing is known of: another value for each, in every process."""
    try:
        token = _tokens.setdefault(given, uuid4().hex)
    except (
        TypeError
    ):  # no weak reference to it, or no hash of it: each evaluation takes it for another
        token = uuid4().hex
    return {"process": token}


def _response(said: Any) -> Response:
    if isinstance(said, Response):
        return said
    if isinstance(said, str):
        return Response(text=said)
    if isinstance(said, Image):
        return Response(images=(said,))
    from PIL import Image as PILImage

    from emu2eval.media import images

    if isinstance(said, PILImage.Image):
        return Response(images=(images.from_pil(said),))
    return Response(
        error=f"the function returned {type(said).__name__}, which is neither text nor an image"
    )
