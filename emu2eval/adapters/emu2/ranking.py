"""How likely each choice is as the reply: the prompt is read once, the choices on top of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from emu2eval.adapters.choices import Question
from emu2eval.adapters.emu2.cache import Segment, SegmentedCache
from emu2eval.adapters.emu2.model import Emu2, left_pad
from emu2eval.adapters.emu2.prefix import Prefilled

ROWS = 32
"""Choices that are read at a time."""


def log_probs(
    model: Emu2, prompts: Prefilled, questions: Sequence[Question]
) -> list[tuple[float, ...]]:
    """For each question the log-probability (nats) of each reply, summed over its tokens.

    prompts: the questions' prompts, as `prefill` read them.
    """
    first = model.logits(prompts.hidden).log_softmax(-1)
    results = []
    for row, question in enumerate(questions):
        # A reply of one token is answered by the prompt's own last position.
        sums = [first[row, reply[0]].item() for reply in question.replies]
        longer = [i for i, reply in enumerate(question.replies) if len(reply) > 1]
        own = [_row(segment, row) for segment in prompts.segments] if longer else []
        for at in range(0, len(longer), ROWS):
            some = longer[at : at + ROWS]
            rest = _continued(model, own, [question.replies[i] for i in some])
            for i, value in zip(some, rest, strict=True):
                sums[i] += value
        results.append(tuple(sums))
    return results


def _continued(
    model: Emu2, prompt: Sequence[Segment], replies: Sequence[tuple[int, ...]]
) -> list[float]:
    """Sum of the log-probabilities of each reply's tokens after its first."""
    given = [torch.tensor(reply[:-1]) for reply in replies]
    embeds, valid = left_pad(
        [model.embed(ids, torch.zeros_like(ids, dtype=torch.bool), None) for ids in given]
    )
    hidden = model.read(embeds, valid, SegmentedCache(prompt))
    sums = []
    for row, reply in enumerate(replies):
        scores = model.logits(hidden[row, -(len(reply) - 1) :]).log_softmax(-1)
        wanted = torch.tensor(reply[1:], device=scores.device)
        sums.append(scores.gather(1, wanted[:, None]).sum().item())
    return sums


def _row(segment: Segment, row: int) -> Segment:
    return segment if segment.rows == 1 else segment.row(row)
