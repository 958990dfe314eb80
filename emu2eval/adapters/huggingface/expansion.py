"""What a processor makes of one image: the text that stands for it, and the arrays its encoder takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from PIL import Image

from emu2eval.adapters.local.prepared import Arrays
from emu2eval.adapters.local.private import image_step, merged_options
from emu2eval.errors import ConfigError

PROCESSOR = "the model's image processor"
NAMED = ("image_placeholder_token", "image_token")
"""Under what name a processor has the text that it replaces by an image's places."""
ALONE = "alone"
"""The variety of an image whose prompt holds no other, where the processor treats it differently."""


class Expansion:
    """options: passed on to the image processor, such as max_pixels or do_image_splitting.

    several: its processor's own call takes a prompt with more than one image.
    """

    several: ClassVar[bool] = True

    def __init__(self, processor: Any, options: Mapping[str, Any]):
        self.processor = processor
        self.options = dict(options)
        token = next(filter(None, (getattr(processor, name, None) for name in NAMED)), "<image>")
        self.placeholder = str(getattr(token, "content", token))
        self._kwargs = _image_options(processor, self.options)
        self._sized = _sized(processor.image_processor, self.options)
        self.text = lru_cache(maxsize=1 << 14)(self._text)

    def _text(self, width: int, height: int, variety: str) -> str:
        """What the placeholder of an image of that size becomes. Exact: the processor says it itself."""
        return self._processed(Image.new("RGB", (width, height)), variety)[1]

    def arrays(self, image: Image.Image, variety: str) -> Arrays:
        """What the image's encoder takes."""
        return Arrays(self._processed(image, variety)[0])

    @property
    def minds_company(self) -> bool:
        """Whether an image alone in its prompt is treated differently from one of several."""
        return "batch_num_images" in getattr(
            self.processor.image_processor, "model_input_names", ()
        )

    def copies(self, variety: str) -> int:
        """How often an image is in its arrays: twice where one in company is meant; the first is used."""
        return 2 if self.minds_company and variety != ALONE else 1

    def whole(self, text: str, images: Sequence[Image.Image]) -> list[int]:
        """The ids of a prompt by the processor's own call, which is what other expansions are held to.

        text: with a placeholder for each image.
        """
        bos = self.processor.tokenizer.bos_token
        if self._is_idefics2:
            # Its call has its text follow the attribute, and its images the option.
            self.processor.image_processor.do_image_splitting = self._splits
        given = self.processor(
            text=[text],
            images=[[*images]],
            # As the processor's own apply_chat_template does it: never a second <bos>.
            add_special_tokens=bos is None or not text.startswith(bos),
            images_kwargs=self._sized,
            return_tensors="pt",
        )
        ids: list[int] = given["input_ids"][0].tolist()
        return ids

    def _processed(self, image: Image.Image, variety: str) -> tuple[dict[str, Any], str]:
        count = self.copies(variety)
        images = self.processor.prepare_inputs_layout(
            images=[image] * count, text=[self.placeholder * count]
        )[0]
        if self.minds_company:
            # As the images of one prompt: in a bare list each would count as alone.
            images = [images]
        if not self._is_idefics2:
            found, texts = image_step(self.processor)(images, **self._kwargs)
            return dict(found), str(texts[0])
        found = self.processor.image_processor([images], **self._kwargs)
        return dict(found), self._idefics2()

    @property
    def closing(self) -> str:
        """What the processor puts behind a prompt; a reply comes after it."""
        return ""

    def numbered(self, text: str, number: int) -> str:
        """What stands for an image that is the prompt's image of that number, from 0."""
        return text

    def finish(self, text: str) -> str:
        """A prompt in which every placeholder was replaced, as the tokenizer gets it."""
        if not self._is_idefics2:
            return text
        text = text.replace(self._fake * 2, self._fake)
        return re.sub(rf"{re.escape(self._fake)}(?=[^\s<])", f"{self._fake} ", text)

    # Idefics2's processor writes its text inside one long call, which cannot be asked for one image;
    # what it does there is done here.

    @property
    def _is_idefics2(self) -> bool:
        return any(kind.__name__ == "Idefics2Processor" for kind in type(self.processor).__mro__)

    @property
    def _fake(self) -> str:
        return str(self.processor.fake_image_token)

    def _idefics2(self) -> str:
        slots = self.placeholder * int(self.processor.image_seq_len)
        return self._fake + (slots + self._fake) * (5 if self._splits else 1)

    @property
    def _splits(self) -> bool:
        split = self._kwargs.get("do_image_splitting")
        return bool(self.processor.image_processor.do_image_splitting if split is None else split)


def _image_options(processor: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        merged = merged_options(processor, _sized(processor.image_processor, options))
    except Exception as error:
        # A name that it does not know is a TypeError, a value a kind of its own.
        if not options:
            raise
        reason = " ".join(str(error).split())
        raise ConfigError(f"the image processor does not accept image_options ({reason})") from None
    # What belongs to the processor itself, and not to its image half, and is wanted there all the same.
    wanted = inspect.signature(image_step(processor)).parameters
    own = {n: merged[n] for n in wanted if n in merged and not n.endswith("_kwargs")}
    return {**merged["images_kwargs"], **own, "return_tensors": "pt"}


def _sized(image_processor: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Qwen's older names, min_pixels and max_pixels, as the two ends of `size` that they became."""
    size, named = getattr(image_processor, "size", None), dict(options)
    pixels = {
        edge: named.pop(old)
        for old, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge"))
        if named.get(old) is not None
    }
    edges = {edge: getattr(size, edge, None) for edge in ("shortest_edge", "longest_edge")}
    if not pixels or None in edges.values():
        return dict(options)
    return {"size": {**edges, **pixels}, **named}
