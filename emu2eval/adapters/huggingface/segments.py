"""A tokenizer asked for one stretch of text at a time, each of them once: what stands between two of its own
tokens has the same ids wherever it stands.

The tokenizers of Hugging Face cut a text at their added tokens first, and encode what lies between by itself.
Whether one really does is tried with awkward texts; one that does not is given every text whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import product
from typing import Any

from emu2eval.adapters.local.bounded import Bounded
from emu2eval.adapters.local.pieces import Stretch

REMEMBERED = 64 << 20
"""Bytes of ids: those of some 50,000 questions."""
AWKWARD = (
    "", "a", " ", "\n", " a", "a ", "\n\na\n", "  two  gaps ", "Ein Ü, 12 345.678!", "日本語", "🦊 🇫🇷", "\ta",
    "what colour is it? Answer:", "a\u00a0\u200bb", "e\u0301", "▁a", "'s", "<", "[x]", "e" * 40,
)  # fmt: skip


class Segments:
    """slot: the id that an image's embedding replaces. named: a text that holds tokens worth cutting at.

    apart: whether stretches are encoded by themselves; else `piece` takes whole texts only.
    """

    def __init__(self, tokenizer: Any, slot: int, named: str = ""):
        self._words = tokenizer
        self._slot = slot
        self._named = named
        self._known: Bounded[Stretch] = Bounded(REMEMBERED)

    @cached_property
    def apart(self) -> bool:
        return self._first in self._ids and self._adds_in_front and self._agrees()

    def piece(self, text: str, special: bool | None) -> Stretch:
        """The ids of a text. special: with what the tokenizer itself puts before it; None = the text stands
        behind others, and begins with the token of an image's places."""
        found = self._known.get((text, special))
        if found is None:
            made = self._put_together if self.apart else self._whole
            found = made(text, special)
            self._known.put((text, special), found)
        return found

    def places(self, text: str) -> Stretch:
        """The ids of what an image fills, from the first of its places to the last."""
        return self._put_together(text, None)

    def _whole(self, text: str, special: bool | None) -> Stretch:
        ids = self._words(text, add_special_tokens=bool(special))["input_ids"]
        return Stretch.of(ids, self._slot)

    def _put_together(self, text: str, special: bool | None) -> Stretch:
        ids = [*self._before] if special else []
        for place, part in enumerate(self._cut.split(text)):
            if place % 2:
                ids.append(self._ids[part])
            elif part:
                ids += self._segment(part, begins=not place and special is not None)
        return Stretch.of(ids, self._slot)

    def _segment(self, text: str, begins: bool) -> tuple[int, ...]:
        """Ids of what stands between two added tokens, or at the very beginning of a text."""
        found = self._known.get((text, begins, "segment"))
        if found is None:
            first = self._first
            framed = f"{text}{first}" if begins else f"{first}{text}{first}"
            ids = self._encoded(framed)
            found = Stretch(tuple(ids[0 if begins else 1 : -1]))
            self._known.put((text, begins, "segment"), found)
        return found.ids

    def _encoded(self, text: str) -> list[int]:
        core = self._words.backend_tokenizer
        ids: list[int]
        if core.encode_special_tokens or core.truncation is not None or core.padding is not None:
            # As the last call left it; the tokenizer's own puts that right.
            ids = self._words(text, add_special_tokens=False)["input_ids"]
        else:
            # Without offsets and all that its own call makes of them: a third of the time.
            ids = core.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    @cached_property
    def _first(self) -> str:
        return str(self._words.convert_ids_to_tokens(self._slot))

    @cached_property
    def _before(self) -> tuple[int, ...]:
        """What the tokenizer puts before a text of its own accord."""
        return tuple(self._words("", add_special_tokens=True)["input_ids"])

    @property
    def _adds_in_front(self) -> bool:
        """Whether it puts nothing behind a text."""
        bare, more = (
            self._words("a", add_special_tokens=asked)["input_ids"] for asked in (False, True)
        )
        return [*self._before, *bare] == list(more)

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        """The tokens at which a text is cut: they are found wherever they stand, and take nothing from what
        stands beside them."""
        if not getattr(self._words, "is_fast", False):
            return {}
        added = self._words.added_tokens_decoder
        every = [str(token) for token in added.values()]
        worth = {self._first, *map(str, self._words.special_tokens_map.values())}
        return {
            str(token): number
            for number, token in added.items()
            if (str(token) in worth or str(token) in self._named)
            and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
            and _stands_alone(str(token), every)
        }

    @cached_property
    def _cut(self) -> re.Pattern[str]:
        longest_first = sorted(self._ids, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    def _agrees(self) -> bool:
        """Whether awkward texts put together from segments have the ids of the whole."""
        for text in self._tried():
            for special in (True, False):
                if self._put_together(text, special).ids != self._whole(text, special).ids:
                    return False
        first = self._first
        for before, after in product(AWKWARD[:6], repeat=2):
            begun, rest = f"{before}{first}", f"{first}{after}"
            whole = self._whole(f"{begun}{first}{rest}", True).ids
            pieces = (self._put_together(begun, True), self.places(first))
            if (*pieces[0].ids, *pieces[1].ids, *self._put_together(rest, None).ids) != whole:
                return False
        return True

    def _tried(self) -> Iterator[str]:
        tokens = [*self._ids][:8]
        yield from AWKWARD
        yield "".join(tokens)
        for number, text in enumerate(AWKWARD):
            one, other = tokens[number % len(tokens)], tokens[(number + 1) % len(tokens)]
            yield f"{text}{one}{text}{other}{text}"
            yield f"{one}{text} {other}\n{text}{self._first}"


def _stands_alone(token: str, every: list[str]) -> bool:
    """Whether no other token can be found in place of it: none begins earlier and reaches into it, and none
    begins with it."""
    if token != token.strip() or not token:
        return False
    begun = tuple(token[:count] for count in range(1, len(token)))
    return not any(
        other.endswith(begun) or (token in other and token != other) for other in every if other
    )
