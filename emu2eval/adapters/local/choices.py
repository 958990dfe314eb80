"""What is scored of each choice: its tokens after what all choices have in common.

A choice is encoded together with its prompt, because sentencepiece encodes words with the space before
them: "Answer: yes" is "▁Answer : ▁yes", while "Answer: " and "yes" apart give a lone "▁" and a second
one. Encoding together may change the prompt's last token as well; so all choices are scored from
the first place where any of them departs from the prompt alone, and they stay comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.pieces import Pieces
from emu2eval.errors import PlanError


@dataclass(frozen=True, slots=True)
class Question:
    """pieces: what all choices have in common; replies: the ids that each adds."""

    pieces: Pieces
    replies: tuple[tuple[int, ...], ...]

    @property
    def prompt(self) -> Encoded:
        return self.pieces.encoded

    @classmethod
    def of(cls, prompt: Pieces, replied: Sequence[Pieces], choices: Sequence[str]) -> Question:
        """From the prompt alone and with each choice. Raises PlanError for a choice without tokens."""
        start = min(prompt.common(with_reply) for with_reply in replied)
        replies = tuple(with_reply.after(start) for with_reply in replied)
        for choice, reply in zip(choices, replies, strict=True):
            if not reply or not choice.strip():
                # A blank one would be ranked by the likelihood of the space before it.
                raise PlanError(
                    f"the choice {choice!r} adds no word to the prompt, so it has no likelihood",
                    hint="give each choice a word or a letter",
                )
        return cls(prompt.head(start), replies)

    def scores(self, sums: Sequence[float], *, per_token: bool) -> tuple[float, ...]:
        """The sums as they are, or each as the mean over its reply's tokens."""
        lengths = [len(reply) if per_token else 1 for reply in self.replies]
        return tuple(s / n for s, n in zip(sums, lengths, strict=True))
