"""How an answer is searched for or drawn, and what was found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn, as transformers has it: scores are divided by `temperature`, then the `top_k`
    likeliest tokens are kept, then the fewest of these that hold `top_p` of the probability.

    seed: another one, other answers.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Search:
    """Greedy with one beam, else a beam search; or drawn, where there is a sampling.

    min_new_tokens: the answer may not end before. length_penalty: a hypothesis scores its sum of
    log-probabilities / length ** length_penalty. repetition_penalty: divides the scores of known tokens.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An answer's ids, without the token that ends it. ended: there was one."""

    ids: tuple[int, ...]
    ended: bool

    @classmethod
    def cut(cls, ids: list[int], ends: list[int]) -> Found:
        """The ids up to the first that ends an answer.

        >>> Found.cut([5, 6, 2, 0], [2])
        Found(ids=(5, 6), ended=True)
        """
        end = next((place for place, i in enumerate(ids) if i in ends), len(ids))
        return cls(tuple(ids[:end]), end < len(ids))
