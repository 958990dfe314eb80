"""Emu3 (arXiv 2409.18869): an image is the ids of its patches, with its height and width before them."""

from __future__ import annotations

from emu2eval.adapters.huggingface.expansion import Expansion


class Emu3Expansion(Expansion):
    """Begins a prompt as transformers' `Emu3Processor` does, where the template does not."""

    def finish(self, text: str) -> str:
        first = str(self.processor.bos_token)
        return text if text.startswith(first) else first + text
