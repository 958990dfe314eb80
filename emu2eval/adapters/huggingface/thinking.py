"""What a model that thinks first said: its thought and its answer, each from the tokens it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from emu2eval.adapters.local.pieces import Pieces
from emu2eval.adapters.local.search import Found
from emu2eval.adapters.thought import TAGS, UNCLOSED, apart, opens, separated
from emu2eval.types import Response

_LAST = 32
"""Tokens at a prompt's end that may open a thought."""
_MORE = (
    "; allow more tokens (model.settings.thinking: 4096 on top of the task's), or, if the chat template "
    "can, switch reasoning off (model.settings.template_options.enable_thinking: false)"
)


@dataclass(frozen=True)
class Thinking:
    """room: tokens that a thought may take on top of the answer's."""

    tokenizer: Any
    room: int = 0

    def opened(self, prompt: Pieces) -> bool:
        """Whether a prompt ends inside a thought, which its chat template begins."""
        end: str = self.tokenizer.decode(prompt.tail(_LAST), skip_special_tokens=False)
        return opens(end)

    def response(self, found: Found, prompt: Pieces, most: int) -> Response:
        """Thought and answer apart, the answer cut to `most` tokens of its own.

        A thought that was never closed makes it an error.
        """
        opened = self.opened(prompt)
        ids = self._answered(found.ids, most, opened) if self.room else found.ids
        ended = found.ended and len(ids) == len(found.ids)
        said = Response(text=self.decode(ids), ended="stop" if ended else "length")
        said = separated(said, opened=opened)
        return replace(said, error=UNCLOSED + _MORE) if said.error == UNCLOSED else said

    def decode(self, ids: Sequence[int]) -> str:
        """The text without special tokens, except those that stand around a thought."""
        if not self._tags.isdisjoint(ids):
            ids = [i for i in ids if i in self._tags or i not in self._special]
            whole: str = self.tokenizer.decode(ids, skip_special_tokens=False)
            return whole
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _answered(self, ids: tuple[int, ...], most: int, opened: bool) -> tuple[int, ...]:
        """The ids up to the end of an answer of so many tokens; all of a thought that was never closed."""
        raw = self.decode(ids)
        answer = apart(raw, opened=opened).text
        if answer is None:
            return ids
        # The answer is the end of the text, so the token that it begins in is found by halving.
        before, low, high = len(raw) - len(answer), 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            if len(self.decode(ids[: middle + 1])) > before:
                high = middle
            else:
                low = middle + 1
        return ids[: low + most]

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)

    @cached_property
    def _tags(self) -> frozenset[int]:
        """Special tokens of which the marks of a thought are made."""
        marks = "".join(mark for pair in TAGS for mark in pair)
        named = zip(
            self._special, self.tokenizer.convert_ids_to_tokens([*self._special]), strict=True
        )
        return frozenset(i for i, token in named if token in marks)
