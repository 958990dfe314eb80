"""Text to ids and back, as the authors' released code does it: LLaMA's sentencepiece model, with
Emu2's own tokens numbered after it.

transformers' `LlamaTokenizer` is not used: the result of one and the same class has changed twice
since the release (spaces beside special tokens, the word mark after them), silently.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

from emu2eval.adapters.emu2.config import Variant
from emu2eval.errors import ModelError

Manner = Literal["native", "hf"]

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
                hint="set `tokenizer` to LLaMA's tokenizer.model, which comes with the checkpoint",
            ) from None
        except RuntimeError:
            raise ModelError("this is no sentencepiece model", where=self.path) from None
        self.manner = manner
        self.text_size: int = self._pieces.vocab_size()
        names = ADDED + ROLES if variant == "chat" else ADDED
        self.ids = {name: self.text_size + i for i, name in enumerate(names)}
        self._names = {i: name for name, i in self.ids.items()}
        self._known = {"<unk>": UNK, "<s>": BOS, "</s>": EOS, **self.ids}

    @property
    def size(self) -> int:
        """Rows of the model's vocabulary."""
        return self.text_size + len(self.ids)

    def digest(self) -> str:
        """Hex sha256 of the sentencepiece file."""
        return hashlib.sha256(self._data).hexdigest()

    def split(self, text: str, tokens: Collection[str] | None = None) -> list[str | int]:
        """The text cut at special tokens, which become ids; at all of them unless `tokens` names some."""
        known = self._known if tokens is None else {t: self._known[t] for t in tokens}
        # Longest first, since an alternation takes the first that matches.
        pattern = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
        pieces = re.split(f"({pattern})", text)
        return [known[p] if i % 2 else p for i, p in enumerate(pieces) if p]

    def encode(self, parts: str | Iterable[str | int]) -> list[int]:
        """Ids, <s> first. A string is split at all special tokens; parts are taken as they are.

        Every stretch of text between two special tokens is encoded on its own, so that it begins with
        a word mark; neighbouring texts are one stretch.
        """
        pieces = _joined(self.split(parts) if isinstance(parts, str) else parts)
        ids = [BOS]
        for i, piece in enumerate(pieces):
            if isinstance(piece, int):
                ids.append(piece)
                continue
            if self.manner == "native":
                piece = piece.lstrip() if _strips(pieces, i - 1) else piece
                piece = piece.rstrip() if _strips(pieces, i + 1) else piece
            ids += self._pieces.encode(piece)
        return ids

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


def _joined(parts: Iterable[str | int]) -> list[str | int]:
    joined: list[str | int] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _strips(pieces: list[str | int], place: int) -> bool:
    # <unk> alone leaves the white space beside it.
    return 0 <= place < len(pieces) and isinstance(pieces[place], int) and pieces[place] != UNK
