"""Honest baselines that need no training: what a model must beat to have learnt from its prompt."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.errors import UserError
from emu2eval.media import images
from emu2eval.spec.settings import Count
from emu2eval.types import ChoiceOutput, Image, Part, Prompt, Request, Response, Turn

Vector = npt.NDArray[np.float32]
_MOST_THUMBNAILS = 1 << 14
_thumbnails: dict[str, Vector] = {}


class _Baseline(Adapter):
    """Gives each demonstration a weight; replies that agree add theirs up."""

    def __init__(self, batch: Count = 64):
        self.limits = Limits(frozenset({"text", "choice"}), batch=batch)

    @abstractmethod
    def weights(self, prompt: Prompt) -> list[float]:
        """One weight a demonstration."""

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        totals: defaultdict[str, float] = defaultdict(float)
        weights = self.weights(request.prompt)
        # From the query outwards, so that of replies with equal weight the nearer one wins.
        for turn, weight in zip(reversed(request.prompt.turns), reversed(weights), strict=True):
            totals[_text(turn.reply)] += weight
        if isinstance(request.output, ChoiceOutput):
            # Add-one smoothing: a choice that no demonstration shows is unlikely, not impossible.
            shares = [totals.get(choice, 0.0) + 1.0 for choice in request.output.choices]
            return Response(log_probs=tuple(math.log(s / sum(shares)) for s in shares))
        if not totals:
            return Response(text="")  # nothing was shown, so nothing is known
        best = max(totals.values())
        return Response(text=next(reply for reply, total in totals.items() if total == best))


class MostCommon(_Baseline):
    """The most frequent reply among the demonstrations; if tied, the one nearest the query. Uses nothing
    else.

    batch: requests at a time.
    """

    def weights(self, prompt: Prompt) -> list[float]:
        return [1.0] * len(prompt.turns)


class Nearest(_Baseline):
    """The reply of the demonstration most similar to the query, by image and words.

    batch: requests at a time.
    """

    def weights(self, prompt: Prompt) -> list[float]:
        if not prompt.turns:
            return []
        likeness = [_likeness(turn, prompt.query) for turn in prompt.turns]
        best = max(likeness)
        # Only the nearest counts. With ranked choices the others still lean the odds.
        return [1.0 if value == best else max(value, 0.0) * 1e-3 for value in likeness]


class Copy(Adapter):
    """Returns the last image of the prompt unchanged, or a grey one if there is none. Does not draw.

    batch: requests at a time.
    """

    def __init__(self, batch: Count = 64):
        self.limits = Limits(frozenset({"image"}), batch=batch)

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        shown = list(request.prompt.images())
        try:
            image = images.load(shown[-1]) if shown else PILImage.new("RGB", (64, 64), "grey")
        except UserError as error:
            return Response(error=str(error))
        return Response(images=(images.from_pil(image),))


def _likeness(turn: Turn, query: Sequence[Part]) -> float:
    """Share of common words plus cosine of thumbnails, each at most 1."""
    left, right = _words(_text(turn.ask)), _words(_text(query))
    words = len(left & right) / len(left | right) if left | right else 0.0
    shown = [p for p in turn.ask if isinstance(p, Image)]
    asked = [p for p in query if isinstance(p, Image)]
    cosine = 0.0
    for mine, theirs in zip(shown, asked, strict=False):
        cosine += float(_thumbnail(mine) @ _thumbnail(theirs)) / len(asked)
    return words + cosine


def _text(parts: Sequence[Part]) -> str:
    return "".join(part for part in parts if isinstance(part, str)).strip()


@lru_cache(maxsize=1 << 14)
def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().replace("?", " ").replace(":", " ").split())


def _thumbnail(image: Image) -> Vector:
    """8 x 8 RGB, mean removed, unit length: (192,) float32. Made once a digest."""
    digest = images.digest(image)
    found = _thumbnails.get(digest)
    if found is None:
        found = np.asarray(images.load(image).resize((8, 8)), dtype=np.float32).ravel()
        found -= found.mean()
        found /= max(float(np.linalg.norm(found)), 1e-6)
        if len(_thumbnails) >= _MOST_THUMBNAILS:
            _thumbnails.pop(next(iter(_thumbnails)))
        _thumbnails[digest] = found
    return found
