"""The prompts of a run: which demonstrations a query is shown, in which order, and what is taken away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from emu2eval.data.samples import Samples
from emu2eval.engine.questions import Place, Questions
from emu2eval.errors import ConfigError, DataError, of_part
from emu2eval.fewshot.ablate import ablate, dealt
from emu2eval.fewshot.choosers import Chooser, Demonstration
from emu2eval.fewshot.draw import keyed
from emu2eval.prompts import PromptBuilder
from emu2eval.types import Output, Prompt, Sample, Shots


@dataclass(frozen=True, slots=True)
class Prompted:
    """A query's prompt with what it is made of. left_out: demonstrations that were drawn but dropped."""

    sample: Sample
    demonstrations: tuple[Demonstration, ...]
    prompt: Prompt
    left_out: int = 0

    def shorter(self, left_out: int) -> Prompted:
        """Without so many of the farthest demonstrations of the whole prompt."""
        more = left_out - self.left_out
        return replace(
            self,
            demonstrations=self.demonstrations[more:],
            prompt=replace(self.prompt, turns=self.prompt.turns[more:]),
            left_out=left_out,
        )


@dataclass(frozen=True)
class Prompts:
    """Every prompt of a run, made one at a time: the same whatever the order they are asked for.

    pool, chooser: None where no demonstrations are shown. ablation: what is taken away from them, of
    `fewshot.ablate.ABLATIONS`.
    """

    questions: Questions
    shots: Shots
    pool: Samples | None = None
    chooser: Chooser | None = None
    seed: int = 0
    ablation: str = "none"

    def at(self, place: Place, left_out: int = 0) -> Prompted:
        """The prompt of a place; all takes of a query and trial share it.

        Raises DataError for a sample that cannot be asked.
        """
        sample = self.questions.query(place.position)
        if sample.unreadable is not None:
            raise DataError(
                f"the sample {sample.id!r} cannot be used: {sample.unreadable}",
                where=self.questions.samples.where,
            )
        chosen: list[Demonstration] = []
        if self.chooser is not None:
            with of_part("chooser", self.questions.task.spec.demonstrations.chooser):
                chosen = self.chooser.choose(sample, self.shots.count, place.trial)
        key = (self.seed, place.trial)
        if self.ablation == "order":
            chosen = dealt(chosen, [d.sample.id for d in chosen], "order", *key)
        prompt = self._builder.build(
            sample, [d.sample for d in chosen], text_only=self.shots.text_only
        )
        if self.ablation != "none":
            names = [d.sample.id for d in chosen]
            prompt = replace(prompt, turns=ablate(prompt.turns, names, self.ablation, *key))
        whole = Prompted(sample, tuple(chosen), prompt)
        return whole.shorter(left_out) if left_out else whole

    def before(self, prompted: Prompted) -> Prompt | None:
        """What is asked before this prompt, where the protocol asks something first."""
        return self._builder.before(prompted.prompt, prompted.sample)

    def output(self, place: Place, sample: Sample) -> Output:
        """What is asked for at a place. Every image has noise of its own, which no batch, limit or order
        of queries changes."""
        wanted = self.questions.task.spec.output
        number = place.trial * self.questions.takes + place.take
        noise = keyed("noise", wanted.seed, self.seed, sample.id, number) % 2**31
        try:
            return wanted.build(sample.choices, noise)
        except ConfigError as error:
            where = error.where or self.questions.task.document.where(("output",))
            raise ConfigError(
                f"sample {sample.id!r}: {error.what}", where=where, hint=error.hint
            ) from None

    @cached_property
    def _builder(self) -> PromptBuilder:
        task = self.questions.task
        where = task.document.where(("protocols", task.protocol_name))
        return PromptBuilder(task.protocol, where)
