"""Batches of encoded prompts through a loaded Emu2: texts, log-probabilities, images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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

    empty: the prompt that classifier-free guidance contrasts with.
    """

    def __init__(
        self, model: Emu2, empty: Encoded, painter: Callable[[], Painter], reuse: bool = True
    ):
        super().__init__(Emu2Reader(model, TowerEncoder(model, reuse)), reuse)
        self.model = model
        self.empty = empty
        self._load_painter = painter
        self._painter: Painter | None = None
        self._uncond: Tensor | None = None
        self._uncond_of_images: Tensor | None = None
        self._latest: tuple[tuple[int | str, ...], Tensor] | None = None

    @torch.inference_mode()
    def images(self, drawings: Sequence[WantedImage]) -> list[tuple[Image, bool]]:
        """An image for each, and whether the safety checker blackened it.

        Its bytes are those that it has alone: see `Painter.together`.
        """
        alike: dict[tuple[bool, ImageOutput], list[int]] = {}
        conds = []
        for i, drawing in enumerate(drawings):
            conds.append(self._condition(drawing))
            alike.setdefault((drawing.again, replace(drawing.output, seed=0)), []).append(i)
        found: dict[int, tuple[Image, bool]] = {}
        for (again, output), rows in alike.items():
            uncond = self._contrast(again)
            images = self._paint(
                torch.cat([conds[i] for i in rows]),
                uncond,
                output,
                [drawings[i].output.seed for i in rows],
            )
            found |= dict(zip(rows, images, strict=True))
        return [found[i] for i in range(len(drawings))]

    def _condition(self, drawing: WantedImage) -> Tensor:
        """(1, tokens, width). One at a time, without a shared beginning: rounding would change pixels."""
        prompt = drawing.prompt
        if drawing.again:
            (shown,) = prompt.shown
            return self.reader.encoder.several([shown])[shown.key].pooled[None]
        # Several images of one prompt follow one another.
        if self._latest is None or self._latest[0] != prompt.signature:
            self._latest = prompt.signature, self.regress([prompt])
        return self._latest[1]

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
        step = 1
        if len(seeds) > 1 and len(seeds) * steps >= WORTHWHILE:
            step = painter.together(*size, cond.shape[1], guidance > 1)
        images = []
        for at in range(0, len(seeds), step):
            some = slice(at, at + step)
            images += painter.paint(cond[some], uncond, seeds[some], *size, steps, guidance)
        return [(from_pil(image), bool(image.info.get("flagged"))) for image in images]
