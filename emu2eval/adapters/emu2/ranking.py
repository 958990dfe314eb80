"""How likely each choice is as the reply: the prompt is read once, the choices on top of it.

A choice is encoded together with its prompt, because sentencepiece encodes words with the space before
them: "Answer: yes" is "▁Answer : ▁yes", while "Answer: " and "yes" apart give a lone "▁" and a second
one. Encoding together may change the prompt's last token as well; so all choices are scored from
the first place where any of them departs from the prompt alone, and they stay comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from emu2eval.adapters.emu2.cache import Segment, SegmentedCache
from emu2eval.adapters.emu2.model import Emu2, left_pad
from emu2eval.adapters.emu2.prefix import Prefilled, common
from emu2eval.adapters.emu2.prompt import Encoded
from emu2eval.errors import PlanError

ROWS = 32
"""Choices that are read at a time."""


@dataclass(frozen=True, slots=True)
class Question:
    """prompt: what all choices have in common; replies: the ids that each adds."""

    prompt: Encoded
    replies: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, prompt: Encoded, replied: Sequence[Encoded], choices: Sequence[str]) -> Question:
        """From the prompt alone and with each choice. Raises PlanError for a choice without tokens."""
        start = min(common([prompt.ids, with_reply.ids]) for with_reply in replied)
        replies = tuple(with_reply.ids[start:] for with_reply in replied)
        for choice, reply in zip(choices, replies, strict=True):
            if not reply:
                raise PlanError(
                    f"the choice {choice!r} adds no token to the prompt, so it has no likelihood",
                    hint="name the choices by a word or a letter each",
                )
        return cls(prompt.head(start), replies)


def log_probs(
    model: Emu2, prompts: Prefilled, questions: Sequence[Question], *, per_token: bool = False
) -> list[tuple[float, ...]]:
    """For each question the log-probability (nats) of each reply: the sum, or the mean over its tokens.

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
        lengths = [len(reply) if per_token else 1 for reply in question.replies]
        results.append(tuple(s / n for s, n in zip(sums, lengths, strict=True)))
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
