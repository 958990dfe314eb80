"""Greedy and beam search with the exact rules of transformers 4.31, which the authors' numbers rest on.

Where current transformers differ: their beam search compares the worst kept hypothesis with the best
*running* beam, 4.31 with the best of all 2 x beams candidates, ended ones included, so theirs may stop
earlier; they ignore `min_length` when embeddings are given; and they divide unfinished beams by a
length that is one less. The length of a hypothesis is 1 + its tokens without </s>: 4.31 counts the <s>
that it starts from, though the prompt is given as embeddings.

Beams and hypotheses are tensors beside the logits: a device is waited for once a token, for whether to go on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from emu2eval.adapters.emu2.tokenizer import BOS, EOS
from emu2eval.adapters.local.finite import best_are_finite, refuse_scores
from emu2eval.adapters.local.search import Search

Advance = Callable[[Tensor, Tensor], Tensor]
"""(next token of each row, the row it goes on from), both (rows,) -> logits (rows, vocabulary)."""


def likeliest(scores: Tensor) -> Tensor:
    return scores.argmax(-1)


def greedy(
    first: Tensor,
    advance: Advance,
    search: Search,
    choose: Callable[[Tensor], Tensor] = likeliest,
) -> list[list[int]]:
    """A token after the other, </s> last where there is one. Raises NotFinite.

    first: (prompts, vocabulary), the logits after the prompts. choose: such scores -> a token a prompt.
    """
    history = _history(len(first), search, first.device)
    rows = torch.arange(len(first), device=first.device)
    ended = torch.zeros_like(rows, dtype=torch.bool)
    logits = first
    for step in range(search.max_new_tokens):
        best = choose(_processed(logits, history, search, step))
        # Rows that ended are filled with <s>, which every row begins with.
        history[:, step + 1] = torch.where(ended, BOS, best)
        ended = ended | (best == EOS)
        if _over(ended, logits) or step + 1 == search.max_new_tokens:
            break
        logits = advance(best, rows)
    found: list[list[int]] = history[:, 1 : step + 2].tolist()
    return [_cut(row) for row in found]


def beam_search(first: Tensor, advance: Advance, search: Search) -> list[list[int]]:
    """The best hypothesis of each prompt, </s> last where it ended. Raises NotFinite.

    first: (prompts, vocabulary), the logits after the prompts.
    """
    samples, vocabulary = first.shape
    beams = search.beams
    # Only the first beam counts at the start: all are equal until they part.
    scores = torch.full((samples, beams), -1e9, device=first.device)
    scores[:, 0] = 0.0
    rows = torch.arange(samples * beams, device=first.device).view(samples, beams)
    history = _history(samples * beams, search, first.device)
    ended = _Ended(samples, search, history)
    logits = first.repeat_interleave(beams, 0)
    for step in range(search.max_new_tokens):
        log_probs = _processed(logits.log_softmax(-1), history, search, step)
        total = log_probs.view(samples, beams, vocabulary) + scores[:, :, None]
        best, places = total.view(samples, -1).topk(2 * beams)
        tokens, parents = places % vocabulary, places // vocabulary + rows[:, :1]
        ends = tokens == EOS
        before = ended.done
        ended.add(best[:, :beams], history[parents[:, :beams]], ends[:, :beams], step)
        ended.check(best[:, 0], step + 1)
        # The first that do not end go on; of a prompt that is done, unheeded, so that rows stay in place.
        on = ends.long().argsort(dim=1, stable=True)[:, :beams]
        tokens = torch.where(before[:, None], EOS, tokens.gather(1, on)).flatten()
        parents = torch.where(before[:, None], rows, parents.gather(1, on)).flatten()
        scores = torch.where(before[:, None], 0.0, best.gather(1, on))
        history = history[parents]
        history[:, step + 1] = tokens
        if _over(ended.done, logits) or step + 1 == search.max_new_tokens:
            break
        logits = advance(tokens, parents)
    running = ~ended.done[:, None].expand(-1, beams)
    ended.add(scores, history.view(samples, beams, -1), running, search.max_new_tokens)
    return ended.best()


class _Ended:
    """The best ended hypotheses of each prompt, in the order in which they ended."""

    def __init__(self, samples: int, search: Search, history: Tensor):
        place, beams = history.device, search.beams
        # As Python counts; MPS has no float64.
        wide = torch.float32 if place.type == "mps" else torch.float64
        self.beams = beams
        self.done = torch.zeros(samples, dtype=torch.bool, device=place)
        self.scores = torch.full((samples, beams), -torch.inf, dtype=wide, device=place)
        self.ids = history.new_full((samples, beams, history.shape[1]), EOS)
        # Tensors, since a GPU multiplies by the reciprocal of a number.
        lengths = range(1, search.max_new_tokens + 2)
        self._by_length = torch.tensor(
            [n**search.length_penalty for n in lengths], dtype=wide, device=place
        )
        # Of hypotheses with one score the one that ended last stays, but no new one takes its place.
        self._favoured = torch.tensor(
            [*reversed(range(beams)), *range(beams, 2 * beams)], device=place
        )

    def add(self, totals: Tensor, ids: Tensor, wanted: Tensor, length: int) -> None:
        """Keeps the best of those that are wanted, of prompts that are not done, and of those kept so far.

        totals, wanted: (samples, beams), the best first; ids: (samples, beams, 1 + most), changed: what is
        behind that length becomes </s>.
        """
        wanted = wanted & ~self.done[:, None]
        # To look costs nothing here, where a GPU would be waited for.
        if wanted.device.type == "cpu" and not wanted.any():
            return
        score = totals.to(self.scores.dtype) / self._by_length[length]
        least = torch.finfo(score.dtype).min  # one that is there is more than a place that is empty
        score = torch.where(wanted, score.clamp(min=least), -torch.inf)
        scores = torch.cat([self.scores, score], 1)
        order = scores[:, self._favoured].sort(dim=1, descending=True, stable=True).indices
        kept = self._favoured[order[:, : self.beams]].sort(dim=1).values
        self.scores = scores.gather(1, kept)
        wide = kept[:, :, None].expand(-1, -1, ids.shape[2])
        ids[:, :, length + 1 :] = EOS
        self.ids = torch.cat([self.ids, ids], 1).gather(1, wide)

    def check(self, attainable: Tensor, generated: int) -> None:
        """Done where nothing better can come. attainable: (samples,), the best sums of all candidates."""
        possible = attainable.to(self.scores.dtype) / self._by_length[generated]
        worst = self.scores.amin(1)
        self.done = self.done | (torch.isfinite(worst) & (worst >= possible))

    def best(self) -> list[list[int]]:
        """Of equals the one that ended last."""
        place = self.beams - 1 - self.scores.flip(1).argmax(1)
        rows = torch.arange(len(place), device=place.device)
        found: list[list[int]] = self.ids[rows, place, 1:].tolist()
        return [_cut(ids) for ids in found]


def _cut(ids: list[int]) -> list[int]:
    """Up to the first </s>, or all."""
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids


def _history(rows: int, search: Search, device: torch.device) -> Tensor:
    """(rows, 1 + most): <s>, then the tokens so far; places to come hold <s> as well."""
    return torch.full((rows, 1 + search.max_new_tokens), BOS, device=device)


def _over(done: Tensor, logits: Tensor) -> bool:
    """Whether all are done. Raises NotFinite. The one time that a step waits for its device."""
    over, finite = torch.stack([done.all(), best_are_finite(logits)]).tolist()
    if not finite:
        refuse_scores()
    return bool(over)


def _processed(scores: Tensor, history: Tensor, search: Search, generated: int) -> Tensor:
    """The scores with what the search forbids; the repetition penalty never counts the prompt."""
    if search.repetition_penalty != 1.0:
        old = scores.gather(1, history)
        penalty = search.repetition_penalty
        scores = scores.scatter(1, history, torch.where(old < 0, old * penalty, old / penalty))
    if generated < search.min_new_tokens:
        scores = scores.clone()
        scores[:, EOS] = -torch.inf
    return scores
