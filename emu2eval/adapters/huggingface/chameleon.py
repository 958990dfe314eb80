"""Chameleon (arXiv 2405.09818): a separator stands between a prompt and its reply."""

from __future__ import annotations

from emu2eval.adapters.huggingface.expansion import Expansion


class ChameleonExpansion(Expansion):
    """Ends a prompt as transformers' `ChameleonProcessor` does."""

    @property
    def closing(self) -> str:
        completes = self.processor.return_for_text_completion
        return "" if completes else str(self.processor.tokenizer.sep_token)
