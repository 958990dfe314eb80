"""Text to ids and back, as the authors' released code does it: LLaMA's sentencepiece model, with
Emu2's own tokens numbered after it.

transformers' `LlamaTokenizer` is not used: the result of one and the same class has changed twice
since the release (spaces beside special tokens, the word mark after them), silently.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal

from emu2eval.adapters.emu2.config import Variant
from emu2eval.errors import ModelError

Manner = Literal["native", "hf"]
Ids = tuple[int, ...]

UNK, BOS, EOS = 0, 1, 2
PAD, BOI, EOI, IMAGE, FRAME = "[PAD]", "[IMG]", "[/IMG]", "<image>", "[gIMG]"
VIDEO, GROUNDING, USER, ASSISTANT = "[VIDEO]", "<grounding>", "[USER]", "[ASSISTANT]"

# What a text may say itself: phrases, boxes and the like (README of the authors' released code).
MARKUP = (
    GROUNDING,
    *("<phrase>", "</phrase>", "<object>", "</object>"),
    *("</delimiter_of_multi_objects/>", "<REC>"),
    *(f"<patch_index_{i:04d}>" for i in range(257)),
)
# The order gives the ids: [PAD] follows the last sentencepiece, 32000 for LLaMA.
ADDED = (PAD, BOI, EOI, IMAGE, FRAME, "[/gIMG]", "[EOC]", VIDEO, *MARKUP)
ROLES = (USER, ASSISTANT)
REMEMBERED = 1 << 15
"""Texts whose ids are remembered, most of them of demonstrations: some 10 MB."""


class Tokenizer:
    """A sentencepiece model with Emu2's tokens; only chat has the roles [USER] and [ASSISTANT].

    manner: "native" strips white space beside special tokens, as the authors' released code does (slow
    LlamaTokenizer of transformers 4.31); "hf" keeps it, as the fast tokenizer of the Hugging Face
    repositories does. Raises ModelError where the file is missing or is no sentencepiece model.
    """

    def __init__(self, path: str | Path, variant: Variant = "base", manner: Manner = "native"):
        from sentencepiece import SentencePieceProcessor

        self.path = Path(path)
        try:
            self._data = self.path.read_bytes()
            self._pieces = SentencePieceProcessor(model_proto=self._data)
        except OSError as error:
            raise ModelError(
                f"the tokenizer cannot be read ({error.strerror})",
                where=self.path,
                hint="set `tokenizer` to LLaMA's tokenizer.model, which is part of the checkpoint",
            ) from None
        except RuntimeError:
            raise ModelError("not a sentencepiece model", where=self.path) from None
        self.manner = manner
        self.text_size: int = self._pieces.vocab_size()
        names = ADDED + ROLES if variant == "chat" else ADDED
        self.ids = {name: self.text_size + i for i, name in enumerate(names)}
        self._names = {i: name for name, i in self.ids.items()}
        self._known = {"<unk>": UNK, "<s>": BOS, "</s>": EOS, **self.ids}
        self._all, self._markup = _any_of(self._known), _any_of(MARKUP)
        self._encoded = lru_cache(maxsize=REMEMBERED)(self._encode)

    @property
    def size(self) -> int:
        """Rows of the model's vocabulary."""
        return self.text_size + len(self.ids)

    def digest(self) -> str:
        """Hex sha256 of the sentencepiece file."""
        return hashlib.sha256(self._data).hexdigest()

    def split(self, text: str, *, markup: bool = False) -> list[str | int]:
        """The text cut at special tokens, which become ids; at those of MARKUP alone if asked."""
        pieces = (self._markup if markup else self._all).split(text)
        return [self._known[p] if i % 2 else p for i, p in enumerate(pieces) if p]

    def encode(self, parts: str | Iterable[str | int]) -> list[int]:
        """Ids, <s> first. A string is split at all special tokens; parts are taken as they are."""
        given = self.split(parts) if isinstance(parts, str) else parts
        return [*chain.from_iterable(self.stretches(given))]

    def stretches(self, parts: Iterable[str | int | Ids]) -> Iterator[Ids]:
        """Ids of each part, <s> first.

        Every stretch of text between two special tokens is encoded on its own, so that it begins with
        a word mark; neighbouring texts are one stretch.
        """
        pieces = _joined(parts)
        yield (BOS,)
        for i, piece in enumerate(pieces):
            if isinstance(piece, int):
                yield (piece,)
            elif isinstance(piece, tuple):
                yield piece
            else:
                if self.manner == "native":
                    piece = piece.lstrip() if _strips(pieces, i - 1) else piece
                    piece = piece.rstrip() if _strips(pieces, i + 1) else piece
                yield self._encoded(piece)

    def _encode(self, text: str) -> Ids:
        return tuple(self._pieces.encode(text))

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Text without special tokens; with them, set off by single spaces in the native manner."""
        words: list[str] = []
        run: list[int] = []
        stretch = ""
        for i in ids:
            if UNK < i <= EOS or i in self._names:
                stretch += self._text(run)
                run = []
                if special and i in self._names:
                    words += [stretch, self._names[i]]
                    stretch = ""
                elif special:
                    stretch += "<s>" if i == BOS else "</s>"
            elif i != UNK or special:
                run.append(i)
        words.append(stretch + self._text(run))
        gap = " " if self.manner == "native" else ""
        return gap.join(word for word in words if word)

    def _text(self, ids: list[int]) -> str:
        text: str = self._pieces.decode(ids) if ids else ""
        return text


def _any_of(tokens: Collection[str]) -> re.Pattern[str]:
    # Longest first, since an alternation takes the first that matches.
    return re.compile(f"({'|'.join(map(re.escape, sorted(tokens, key=len, reverse=True)))})")


def _joined(parts: Iterable[str | int | Ids]) -> list[str | int | Ids]:
    joined: list[str | int | Ids] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _strips(pieces: list[str | int | Ids], place: int) -> bool:
    # <unk> alone leaves the white space beside it.
    return 0 <= place < len(pieces) and not isinstance(pieces[place], str) and pieces[place] != UNK
