"""Batches of encoded prompts through a loaded Emu2: texts, log-probabilities, images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from emu2eval.adapters.emu2.features import TowerEncoder, unconditional
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.painter import GUIDANCE, STEPS, Painter
from emu2eval.adapters.emu2.reading import Emu2Reader
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.inference import Inference
from emu2eval.media.images import from_pil
from emu2eval.types import Image, ImageOutput

if TYPE_CHECKING:
    from emu2eval.adapters.local.rank import Rank

REGRESSED = 8
"""Images whose embeddings a GPU regresses at a time: a step takes it as long for eight as for one."""
WORTHWHILE = 100
"""Steps of denoising, of all images, from which on it is tried how many can be drawn together."""


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image that is wanted. prompt: it ends in [IMG], or is an image alone that is painted `again`.

    In the latter the language model takes no part.
    """

    prompt: Encoded
    output: ImageOutput
    again: bool = False


class Emu2Inference(Inference[Emu2Reader]):
    """A model with its caches. painter: called once, when the first image is wanted.

    empty: the prompt that classifier-free guidance contrasts with. together: images that are regressed and
    drawn at a time; None = as many as change no byte of any on a CPU, fixed groups on a GPU. rank: which of
    the processes that hold the model together this one is; the first one paints. graphs: see `steps`.
    """

    def __init__(
        self,
        model: Emu2,
        empty: Encoded,
        painter: Callable[[], Painter],
        reuse: bool = True,
        together: int | None = None,
        rank: Rank | None = None,
        graphs: bool = False,
    ):
        super().__init__(Emu2Reader(model, TowerEncoder(model, reuse), graphs=graphs), reuse)
        self.model = model
        self.empty = empty
        self.together = together
        self._load_painter = painter
        self._painter: Painter | None = None
        self.rank = rank
        self._uncond: Tensor | None = None
        self._uncond_of_images: Tensor | None = None
        self._latest: tuple[tuple[int | str, ...], Tensor] | None = None

    @torch.inference_mode()
    def images(self, drawings: Sequence[WantedImage]) -> list[tuple[Image, bool]]:
        """An image for each, and whether the safety checker blackened it.

        On a CPU its bytes are those that it has alone: see `Painter.together`. On a GPU they depend on the
        others by rounding.
        """
        alike: dict[tuple[bool, ImageOutput], list[int]] = {}
        conds = self._conditions(drawings)
        for i, drawing in enumerate(drawings):
            alike.setdefault((drawing.again, replace(drawing.output, seed=0)), []).append(i)
        found: dict[int, tuple[Image, bool]] = {}
        for (again, output), rows in alike.items():
            paint = partial(
                self._paint,
                torch.cat([conds[i] for i in rows]),
                self._contrast(again),
                output,
                [drawings[i].output.seed for i in rows],
            )
            images = paint() if self.rank is None else self.rank.by_first(paint)
            found |= dict(zip(rows, images, strict=True))
        return [found[i] for i in range(len(drawings))]

    def _conditions(self, drawings: Sequence[WantedImage]) -> list[Tensor]:
        """(1, tokens, width) of each, the same for all images of a prompt. Without a shared beginning, since
        rounding would change pixels."""
        size = self.together or (REGRESSED if self.model.device.type == "cuda" else 1)
        known: dict[tuple[int | str, ...], Tensor] = {}
        # Several images of one prompt follow one another; in a group rounding depends on the others.
        if size == 1 and self._latest is not None:
            known = dict([self._latest])
        wanted = {
            one.prompt.signature: one.prompt
            for one in drawings
            if not one.again and one.prompt.signature not in known
        }
        prompts = [*wanted.values()]
        for at in range(0, len(prompts), size):
            some = prompts[at : at + size]
            for prompt, cond in zip(some, self.regress(some), strict=True):
                self._latest = prompt.signature, cond[None]
                known |= [self._latest]
        return [self._again(one) if one.again else known[one.prompt.signature] for one in drawings]

    def _again(self, drawing: WantedImage) -> Tensor:
        (shown,) = drawing.prompt.shown
        return self.reader.encoder.several([shown])[shown.key].pooled[None]

    def _contrast(self, again: bool) -> Tensor:
        """What guidance contrasts an image with: an empty prompt's, or that of an image painted again."""
        if again:
            if self._uncond_of_images is None:
                self._uncond_of_images = unconditional(self.model)
            return self._uncond_of_images
        if self._uncond is None:
            self._uncond = self.regress([self.empty])
        return self._uncond

    @torch.inference_mode()
    def regress(self, prompts: Sequence[Encoded]) -> Tensor:
        """(prompts, n_query, width) visual embeddings, see `Emu2Reader.regress`."""
        self.reader.encoder.hold(prompts)
        rows, cache = self.reader.rows(prompts), self.reader.cache()
        hidden = self.reader.hidden(rows, prompts, cache, 0, rows.length)[:, -1]
        return self.reader.regress(rows, cache, hidden, self.model.config.n_query)

    def _paint(
        self, cond: Tensor, uncond: Tensor, output: ImageOutput, seeds: Sequence[int]
    ) -> list[tuple[Image, bool]]:
        if self._painter is None:
            self._painter = self._load_painter()
        painter, size = self._painter, (output.width, output.height)
        guidance = GUIDANCE if output.guidance is None else output.guidance
        steps = STEPS if output.steps is None else output.steps
        step = self.together or 1
        if self.together is None and self.model.device.type == "cuda":
            step = painter.at_most(*size)
        elif self.together is None and len(seeds) > 1 and len(seeds) * steps >= WORTHWHILE:
            step = painter.together(*size, cond.shape[1], guidance > 1)
        images = []
        for at in range(0, len(seeds), step):
            some = slice(at, at + step)
            images += painter.paint(cond[some], uncond, seeds[some], *size, steps, guidance)
        return [(from_pil(image), bool(image.info.get("flagged"))) for image in images]
