"""Batches of encoded prompts through a loaded Emu2: texts, log-probabilities, images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emu2eval.adapters.choices import Question
from emu2eval.adapters.emu2.decoding import Search, generate
from emu2eval.adapters.emu2.features import FeatureCache
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.painter import GUIDANCE, STEPS, Painter, autoencoding
from emu2eval.adapters.emu2.prefix import Prefilled, PrefixCache, prefill
from emu2eval.adapters.emu2.ranking import log_probs
from emu2eval.adapters.emu2.regress import regress
from emu2eval.adapters.emu2.vision import pixels
from emu2eval.adapters.encoded import Encoded
from emu2eval.media.images import from_pil, load
from emu2eval.types import Image, ImageOutput


class Inference:
    """A model with its caches. painter: called once, when the first image is wanted.

    empty: the prompt that classifier-free guidance contrasts with. reuse: see `prefix` and `features`.
    """

    def __init__(
        self, model: Emu2, empty: Encoded, painter: Callable[[], Painter], reuse: bool = True
    ):
        self.model = model
        self.empty = empty
        self.reuse = reuse
        self._features = FeatureCache() if reuse else FeatureCache(0)
        self._prefixes = PrefixCache() if reuse else None
        self._load_painter = painter
        self._painter: Painter | None = None
        self._uncond: Tensor | None = None
        self._uncond_of_images: Tensor | None = None
        self._latest: tuple[tuple[int | str, ...], Tensor] | None = None

    @torch.inference_mode()
    def texts(self, prompts: Sequence[Encoded], search: Search) -> list[list[int]]:
        """The ids of each answer."""
        return generate(self.model, self._read(prompts), search)

    @torch.inference_mode()
    def choices(self, questions: Sequence[Question]) -> list[tuple[float, ...]]:
        """The log-probability (nats) of each choice of each question."""
        read = self._read([question.prompt for question in questions])
        return log_probs(self.model, read, questions)

    @torch.inference_mode()
    def image(self, prompt: Encoded, output: ImageOutput) -> tuple[Image, bool]:
        """An image for a prompt that ends in [IMG], and whether the safety checker blackened it.

        One at a time and without a shared beginning: rounding alone would change its pixels.
        """
        if self._uncond is None:
            self._uncond = self._regress(self.empty)
        # Several images of one prompt follow one another.
        if self._latest is None or self._latest[0] != prompt.signature:
            self._latest = prompt.signature, self._regress(prompt)
        return self._paint(self._latest[1], self._uncond, output)

    @torch.inference_mode()
    def autoencoded(self, image: Image, output: ImageOutput) -> tuple[Image, bool]:
        """An image encoded and painted again; the language model takes no part."""
        size = self.model.config.vision.image_size
        given = pixels(load(image), size)[None]
        cond, self._uncond_of_images = autoencoding(
            self.model.encode_images, given, self._uncond_of_images
        )
        return self._paint(cond, self._uncond_of_images, output)

    @torch.inference_mode()
    def averages(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """(n, width): each image's patch features, averaged. One at a time, as in `features`."""
        size = self.model.config.vision.image_size
        encode = self.model.encode_images
        found = [encode(pixels(load(image), size)[None], 1)[0, 0] for image in images]
        averaged: npt.NDArray[np.float32] = torch.stack(found).float().cpu().numpy()
        return averaged

    def _read(self, prompts: Sequence[Encoded]) -> Prefilled:
        features = self._features.features(self.model, prompts)
        return prefill(self.model, prompts, features, self._prefixes)

    def _regress(self, prompt: Encoded) -> Tensor:
        read = prefill(self.model, [prompt], self._features.features(self.model, [prompt]))
        return regress(self.model, read, self.model.config.n_query)

    def _paint(self, cond: Tensor, uncond: Tensor, output: ImageOutput) -> tuple[Image, bool]:
        if self._painter is None:
            self._painter = self._load_painter()
        image = self._painter.paint(
            cond,
            uncond,
            [output.seed],
            width=output.width,
            height=output.height,
            steps=STEPS if output.steps is None else output.steps,
            guidance=GUIDANCE if output.guidance is None else output.guidance,
        )[0]
        return from_pil(image), bool(image.info.get("flagged"))
