"""Batches of encoded prompts through a loaded model: texts and log-probabilities of choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache, GenerationConfig

from emu2eval.adapters.choices import Question
from emu2eval.adapters.encoded import Encoded, Shown
from emu2eval.adapters.huggingface.attention import install
from emu2eval.adapters.huggingface.features import Encoder, Features
from emu2eval.adapters.huggingface.prefix import Prefix
from emu2eval.adapters.huggingface.reading import Reader, Rows
from emu2eval.adapters.huggingface.roomy import place
from emu2eval.errors import PlanError

ROWS = 32
"""Choices that are read at a time."""
ALONE = 256
"""Positions from which on a row is read on its own: it keeps the device busy, and needs no padding."""


@dataclass(frozen=True, slots=True)
class Search:
    """How an answer is sought; 1 beam = greedily."""

    max_new_tokens: int
    min_new_tokens: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0


class Inference:
    """A model with its caches. ends: ids that end an answer. marks, reader: see `reading`.

    reuse: see `prefix` and `features`.
    """

    def __init__(
        self,
        model: Any,
        encoder: Encoder,
        pad: int,
        ends: Sequence[int],
        marks: Sequence[int],
        reuse: bool = True,
        reader: type[Reader] = Reader,
    ):
        self.model = model
        self.encoder = encoder
        self.pad = pad
        self.ends = list(ends)
        self._now: dict[str, Features] = {}
        segments = reuse and install(model)
        self.reader = reader(model, lambda shown: self._now[shown.key], pad, marks, segments)
        self._prefix = Prefix(self.reader) if reuse else None

    @torch.inference_mode()
    def texts(self, prompts: Sequence[Encoded], search: Search) -> list[list[int]]:
        """The ids of each answer, without what ends it."""
        self._encode(prompts)
        found: dict[int, list[int]] = {}
        for rows, shared in self._groups(prompts):
            answers = self._generate([prompts[row] for row in rows], shared, search)
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
        """(n, width): each image's embeddings, averaged."""
        found = [self.encoder.features(shown).pooled.float().mean(0) for shown in images]
        averaged: npt.NDArray[np.float32] = torch.stack(found).cpu().numpy()
        return averaged

    def _groups(self, prompts: Sequence[Encoded]) -> Iterator[tuple[list[int], int]]:
        """Rows that are read together, and how many positions of a known beginning they share."""
        everybody = list(range(len(prompts)))
        shared = self._prefix.shared(prompts) if self._prefix is not None else 0
        # Padding behind the beginning would push it out of a window of latest positions.
        if self.reader.pads and not (shared and self.reader.slides):
            yield everybody, shared
            return
        by_length = sorted(everybody, key=lambda row: len(prompts[row]))
        for _, alike in groupby(by_length, key=lambda row: len(prompts[row])):
            yield list(alike), shared

    def _cache(self, rows: int, shared: int) -> DynamicCache:
        if self._prefix is None or not shared:
            return self.reader.cache()
        return self._prefix.cache(rows, shared)

    def _generate(self, prompts: Sequence[Encoded], shared: int, search: Search) -> list[list[int]]:
        rows = self.reader.rows(prompts, shared)
        if bool(rows.types[:, -1].any()):
            raise PlanError(
                "a prompt that ends in an image cannot be continued by this model",
                hint="put a text after the last image in the protocol's `ask`",
            )
        cache = self._read(rows, prompts, shared)
        if search.beams > 1:
            cache.batch_repeat_interleave(search.beams)
        out = self.reader.generate(rows, prompts, cache, self._config(search))
        return [self._cut(row) for row in out.tolist()]

    def _read(self, rows: Rows, prompts: Sequence[Encoded], shared: int) -> DynamicCache:
        """Keys and values of all positions but the last."""
        cache, last = self._cache(len(prompts), shared), rows.length - 1
        apart = self.reader.segments or (self.reader.croppable and not shared)
        apart = apart and min(map(len, prompts)) - 1 > shared
        if len(prompts) > 1 and last - shared >= ALONE and apart:
            for row, prompt in enumerate(prompts):
                own, alone = self._cache(1, shared), self.reader.rows([prompt])
                self.reader.read(alone, [prompt], own, shared, len(prompt) - 1)
                place(cache, row, len(prompts), last - shared, own)
        elif last > shared:
            self.reader.read(rows, prompts, cache, shared, last)
        return cache

    def _config(self, search: Search) -> Any:
        config: Any = GenerationConfig
        return config(
            do_sample=False,
            num_beams=search.beams,
            max_new_tokens=search.max_new_tokens,
            min_new_tokens=search.min_new_tokens or None,
            length_penalty=search.length_penalty,
            repetition_penalty=search.repetition_penalty,
            pad_token_id=self.pad,
            eos_token_id=self.ends,
        )

    def _cut(self, ids: list[int]) -> list[int]:
        end = next((place for place, i in enumerate(ids) if i in self.ends), len(ids))
        return ids[:end]

    def _ranked(self, question: Question) -> tuple[float, ...]:
        prompt = question.prompt
        self._encode([prompt])
        shared = self._prefix.shared([prompt]) if self._prefix is not None else 0
        rows, cache = self.reader.rows([prompt]), self._cache(1, shared)
        first = self.reader.read(rows, [prompt], cache, shared, rows.length)[0, -1]
        first = first.float().log_softmax(-1)
        # A reply of one token is answered by the prompt's own last position.
        sums = [first[reply[0]].item() for reply in question.replies]
        longer = [i for i, reply in enumerate(question.replies) if len(reply) > 1]
        for at in range(0, len(longer), ROWS):
            some = longer[at : at + ROWS]
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
        sums = []
        for row, reply in enumerate(replies):
            scores = logits[row, : len(reply) - 1].float().log_softmax(-1)
            wanted = torch.tensor(reply[1:], device=scores.device)
            sums.append(scores.gather(1, wanted[:, None]).sum().item())
        return sums

    def _encode(self, prompts: Sequence[Encoded]) -> None:
        """The features of this batch, held until the next so that a small cache loses none of them."""
        wanted = {shown.key: shown for prompt in prompts for shown in prompt.shown}
        self._now = self.encoder.several(wanted.values())
