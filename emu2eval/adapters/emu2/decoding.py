"""Greedy and beam search with the exact rules of transformers 4.31, which the authors' numbers rest on.

Where current transformers differ: their beam search compares the worst kept hypothesis with the best
*running* beam, 4.31 with the best of all 2 x beams candidates, ended ones included, so theirs may stop
earlier; they ignore `min_length` when embeddings are given; and they divide unfinished beams by a
length that is one less. The length of a hypothesis is 1 + its tokens without </s>: 4.31 counts the <s>
that it starts from, though the prompt is given as embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emu2eval.adapters.emu2.tokenizer import BOS, EOS
from emu2eval.adapters.local.search import Search

Advance = Callable[[list[int], list[int]], Tensor]
"""(next token of each row, the row it goes on from) -> logits (rows, vocabulary)."""


def greedy(first: Tensor, advance: Advance, search: Search) -> list[list[int]]:
    """The likeliest token each time, </s> last where there is one.

    first: (prompts, vocabulary), the logits after the prompts.
    """

    def likeliest(scores: Tensor) -> list[int]:
        found: list[int] = scores.argmax(-1).tolist()
        return found

    return one_by_one(first, advance, search, likeliest)


def one_by_one(
    first: Tensor, advance: Advance, search: Search, choose: Callable[[Tensor], list[int]]
) -> list[list[int]]:
    """As `greedy`, each token by `choose`: scores (prompts, vocabulary) -> a token a prompt."""
    ids: list[list[int]] = [[] for _ in first]
    rows = [*range(len(first))]
    logits = first
    for step in range(search.max_new_tokens):
        scores = _processed(logits, ids, search, step)
        best = choose(scores)
        for row, token in zip(ids, best, strict=True):
            if EOS not in row[-1:]:
                row.append(token)
        if step + 1 == search.max_new_tokens or all(row[-1] == EOS for row in ids):
            break
        logits = advance(best, rows)
    return ids


def beam_search(first: Tensor, advance: Advance, search: Search) -> list[list[int]]:
    """The best hypothesis of each prompt, </s> last where it ended.

    first: (prompts, vocabulary), the logits after the prompts.
    """
    samples, vocabulary = first.shape
    beams = search.beams
    # Only the first beam counts at the start: all are equal until they part.
    scores = torch.full((samples, beams), -1e9, device=first.device)
    scores[:, 0] = 0.0
    ids: list[list[int]] = [[] for _ in range(samples * beams)]
    ends = [_Ended(beams, search.length_penalty) for _ in range(samples)]
    logits = first.repeat_interleave(beams, 0)
    for step in range(search.max_new_tokens):
        log_probs = _processed(logits.log_softmax(-1), ids, search, step)
        total = log_probs.view(samples, beams, vocabulary) + scores[:, :, None]
        top, where = total.view(samples, -1).topk(2 * beams)
        # One copy from the device for each, not one for each sample.
        best, places = top.tolist(), where.tolist()
        tokens: list[int] = []
        parents: list[int] = []
        sums: list[float] = []
        for sample, ended in enumerate(ends):
            if ended.done:
                # Its beams go on unheeded, so that the rows of the batch stay in place.
                tokens += [EOS] * beams
                parents += range(sample * beams, (sample + 1) * beams)
                sums += [0.0] * beams
                continue
            going = 0
            ranked = zip(best[sample], places[sample], strict=True)
            for rank, (value, place) in enumerate(ranked):
                parent, token = sample * beams + place // vocabulary, place % vocabulary
                if token == EOS:
                    if rank < beams:
                        ended.add(value, ids[parent])
                    continue
                tokens.append(token)
                parents.append(parent)
                sums.append(value)
                going += 1
                if going == beams:
                    break
            ended.check(best[sample][0], step + 1)
        ids = [[*ids[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        scores = torch.tensor(sums, device=first.device).view(samples, beams)
        if step + 1 == search.max_new_tokens or all(ended.done for ended in ends):
            break
        logits = advance(tokens, parents)
    for row, (total_score, running) in enumerate(zip(scores.view(-1).tolist(), ids, strict=True)):
        ended = ends[row // beams]
        if not ended.done:
            ended.add(total_score, running)
    found = [ended.best() for ended in ends]
    return [ids if len(ids) == search.max_new_tokens else [*ids, EOS] for ids in found]


@dataclass(slots=True)
class _Ended:
    """The best ended hypotheses of one prompt."""

    beams: int
    length_penalty: float
    done: bool = False
    kept: list[tuple[float, list[int]]] = field(default_factory=list)

    def add(self, total: float, ids: list[int]) -> None:
        score = self._score(total, len(ids))
        if len(self.kept) < self.beams:
            self.kept.append((score, ids))
        elif score > self._worst():
            self.kept.remove(min(self.kept, key=lambda kept: kept[0]))
            self.kept.append((score, ids))

    def check(self, attainable: float, generated: int) -> None:
        """Done when nothing better can come. attainable: the best sum of all candidates."""
        if len(self.kept) == self.beams:
            self.done = self._worst() >= self._score(attainable, generated)

    def best(self) -> list[int]:
        # The later of equals wins, as a stable sort whose last is taken.
        return max(reversed(self.kept), key=lambda kept: kept[0])[1]

    def _score(self, total: float, generated: int) -> float:
        score: float = total / (1 + generated) ** self.length_penalty
        return score

    def _worst(self) -> float:
        return min(score for score, _ in self.kept)


def _processed(scores: Tensor, ids: list[list[int]], search: Search, generated: int) -> Tensor:
    """The scores with what the search forbids; the repetition penalty never counts the prompt."""
    if search.repetition_penalty != 1.0:
        # Rows that ended early are shorter; <s>, which every row begins with, fills them.
        most = max(map(len, ids))
        seen = torch.tensor(
            [[BOS, *row, *[BOS] * (most - len(row))] for row in ids], device=scores.device
        )
        old = scores.gather(1, seen)
        penalty = search.repetition_penalty
        scores = scores.scatter(1, seen, torch.where(old < 0, old * penalty, old / penalty))
    if generated < search.min_new_tokens:
        scores = scores.clone()
        scores[:, EOS] = -torch.inf
    return scores
