"""Batches of encoded prompts through a loaded model: texts and log-probabilities of choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import DynamicCache

from emu2eval.adapters.local.cache import RowPlace, gather, row_of
from emu2eval.adapters.local.choices import Question
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.finite import check_scores
from emu2eval.adapters.local.prefix import Prefix
from emu2eval.adapters.local.reading import Reader, Rows
from emu2eval.adapters.local.search import Found, Search
from emu2eval.media.refusals import taking

ROWS = 32
"""Choices that are read at a time."""
LOGITS = 512 << 20
"""Bytes of logits that are held for them: fewer are read at a time where they are long."""
ALONE = 256
"""Positions from which on a row is read on its own: it keeps the device busy, and needs no padding."""

R = TypeVar("R", bound=Reader[Any])


class Inference(Generic[R]):
    """A model with its caches. reuse: images and shared beginnings of prompts are computed once."""

    def __init__(self, reader: R, reuse: bool = True):
        self.reader = reader
        self.prefix = Prefix(reader) if reuse else None

    def begin(self) -> None:
        """A batch comes next, whose answers shall not depend on the batches before it."""
        if self.prefix is not None:
            self.prefix.begin()

    @torch.inference_mode()
    def expect(self, questions: Sequence[Question]) -> None:
        """Reads what the prompts of questions share that come next, one by one."""
        if self.prefix is not None and len(questions) > 1:
            self.reader.encoder.hold([questions[0].prompt])
            self.prefix.expect([question.prompt for question in questions])

    @torch.inference_mode()
    def texts(
        self, prompts: Sequence[Encoded], search: Search, keys: Sequence[str] = ()
    ) -> list[Found]:
        """The answer to each prompt, which the others of the batch do not change. keys: of the requests, by
        which answers are drawn where the search has a sampling."""
        self.reader.encoder.hold(prompts)
        found: dict[int, Found] = {}
        for rows, shared in self._groups(prompts):
            own = [keys[row] for row in rows] if search.sampling is not None else []
            answers = self._generate([prompts[row] for row in rows], shared, search, own)
            found |= dict(zip(rows, answers, strict=True))
        return [found[row] for row in range(len(prompts))]

    @torch.inference_mode()
    def choices(self, questions: Sequence[Question]) -> list[tuple[float, ...]]:
        """The log-probability (nats) of each choice of each question, summed over its tokens.

        One question at a time, so that no padding stands before its choices.
        """
        return [self._ranked(question) for question in questions]

    @torch.inference_mode()
    def averages(self, images: Sequence[Shown]) -> npt.NDArray[np.float32]:
        """(n, width): each image's embeddings, averaged; each depends on its image alone."""
        encoder = self.reader.encoder
        found = []
        for shown in images:
            with taking(shown.image, "the model's image encoder"):
                found.append(encoder.several([shown])[shown.key].pooled.float().mean(0))
        averaged: npt.NDArray[np.float32] = torch.stack(found).cpu().numpy()
        return averaged

    def _groups(self, prompts: Sequence[Encoded]) -> Iterator[tuple[list[int], int]]:
        """Rows that are read together, and how many positions of a known beginning they share."""
        every_row = list(range(len(prompts)))
        shared = self.prefix.shared(prompts) if self.prefix is not None else 0
        if self._mixes(prompts, shared):
            yield every_row, shared
            return

        def size(row: int) -> tuple[int, int]:
            return len(prompts[row]), len(prompts[row].shown)

        for _, alike in groupby(sorted(every_row, key=size), key=size):
            yield list(alike), shared

    def _mixes(self, prompts: Sequence[Encoded], shared: int) -> bool:
        """Whether prompts of unlike lengths can be asked together."""
        # Padding behind the beginning would push it out of a window of latest positions.
        if not self.reader.pads or self.reader.stretches or (shared and self.reader.slides):
            return False
        return not self.reader.stateful or self._one_by_one(shared)

    def _cache(self, rows: int, shared: int) -> DynamicCache:
        if self.prefix is None or not shared:
            return self.reader.cache()
        return self.prefix.cache(rows, shared)

    def _generate(
        self, prompts: Sequence[Encoded], shared: int, search: Search, keys: Sequence[str]
    ) -> list[Found]:
        rows = self.reader.rows(prompts, shared)
        cache, first = self._read(rows, prompts, shared)
        return self.reader.generate(rows, prompts, cache, first, search, keys)

    def _read(
        self, rows: Rows, prompts: Sequence[Encoded], shared: int
    ) -> tuple[DynamicCache, Tensor]:
        """Keys and values of all positions, and the logits of the last, (rows, words)."""
        cache = self._cache(len(prompts), shared)
        if len(prompts) > 1 and self._apart(prompts, rows.length, shared):
            ends, caches = [], []
            for row, prompt in enumerate(prompts):
                own = row_of(cache, RowPlace(row, len(prompts), rows.length - shared))
                alone = self.reader.rows([prompt])
                ends.append(self.reader.read(alone, [prompt], own, shared, alone.length)[:, -1])
                caches.append(own)
            gather(cache, caches)
            return cache, torch.cat(ends)
        return cache, self.reader.read(rows, prompts, cache, shared, rows.length)[:, -1]

    def _apart(self, prompts: Sequence[Encoded], length: int, shared: int) -> bool:
        """Whether prompts are read one after the other: long prompts, unless every pass moves weights; and
        those of unlike lengths where padding would leave a trace."""
        if not self._one_by_one(shared):
            return False
        if self.reader.stateful and len(set(map(len, prompts))) > 1:
            return True
        return length - shared >= ALONE and not self.reader.offloaded

    def _one_by_one(self, shared: int) -> bool:
        """Whether prompts can be read one after the other, each into a row of one cache."""
        return self.reader.apart and (self.reader.segments or not shared)

    def _ranked(self, question: Question) -> tuple[float, ...]:
        prompt = question.prompt
        self.reader.encoder.hold([prompt])
        shared = self.prefix.shared([prompt]) if self.prefix is not None else 0
        rows, cache = self.reader.rows([prompt]), self._cache(1, shared)
        first = self.reader.read(rows, [prompt], cache, shared, rows.length)[0, -1]
        check_scores(first)
        first = first.float().log_softmax(-1)
        # A reply of one token is answered by the prompt's own last position.
        begun = torch.tensor([reply[0] for reply in question.replies], device=first.device)
        sums: list[float] = first[begun].tolist()
        longer = [i for i, reply in enumerate(question.replies) if len(reply) > 1]
        longest = max(map(len, question.replies))
        together = max(1, min(ROWS, LOGITS // (4 * first.shape[-1] * longest)))
        for at in range(0, len(longer), together):
            some = longer[at : at + together]
            rest = self._continued(prompt, cache, [question.replies[i] for i in some])
            for i, value in zip(some, rest, strict=True):
                sums[i] += value
        return tuple(sums)

    def _continued(
        self, prompt: Encoded, cache: DynamicCache, replies: Sequence[tuple[int, ...]]
    ) -> list[float]:
        """Sum of the log-probabilities of each reply's tokens after its first."""
        given = [
            replace(
                prompt,
                ids=(*prompt.ids, *reply[:-1]),
                slots=(*prompt.slots, *[False] * (len(reply) - 1)),
            )
            for reply in replies
        ]
        own = self.reader.above(cache, len(replies), len(prompt))
        rows = self.reader.rows(given, right=True)
        width = rows.length - len(prompt)
        logits = self.reader.read(rows, given, own, len(prompt), rows.length, keep=width)
        # To the device and back once, not once a reply.
        wanted = torch.tensor(
            [[*reply[1:], *[0] * (width - len(reply) + 1)] for reply in replies],
            device=logits.device,
        )
        sums = []
        for row, reply in enumerate(replies):
            after = len(reply) - 1
            scores = logits[row, :after].float().log_softmax(-1)
            sums.append(scores.gather(1, wanted[row, :after, None]).sum())
        found: list[float] = torch.stack(sums).tolist()
        return found
