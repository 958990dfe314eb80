"""Molmo2: every position of every image sees all the others, those of later images among them."""

from __future__ import annotations

from functools import cached_property

from emu2eval.adapters.huggingface.expansion import Expansion
from emu2eval.adapters.huggingface.reading import TransformersReader


class Molmo2Expansion(Expansion):
    """Begins a prompt as `Molmo2Processor` does, where the template does not."""

    def finish(self, text: str) -> str:
        words = self.processor.tokenizer
        first = str(words.bos_token or words.eos_token)
        return text if text.startswith(first) else first + text


class Molmo2Reader(TransformersReader):
    """Reads a prompt whole: the keys and values of its beginning depend on the images behind it."""

    @cached_property
    def croppable(self) -> bool:
        return False
