"""Stored runs -> what the page shows of each sample: prompt, reply, references, score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from emu2eval.engine.prompting import Prompted, Prompts
from emu2eval.engine.questions import Place, Questions
from emu2eval.engine.reopen import Reopened, reopen
from emu2eval.engine.splits import Splits
from emu2eval.errors import PlanError, StoreError, UserError
from emu2eval.identity import value_key
from emu2eval.media import images
from emu2eval.report.page.confusion import References, confusion
from emu2eval.report.page.reading import FEWEST, ReadRun, cap
from emu2eval.report.page.tables import Tables, Thumbnails
from emu2eval.runs.answers import Answer
from emu2eval.runs.scored import Key, ScoredRun
from emu2eval.runs.scores import SampleScore
from emu2eval.runs.store import RunStore
from emu2eval.types import Image, Part, Prompt, Video
from emu2eval.watch import Watcher

PROMPTS, IMAGES = 8_000, 4_000
"""Prompts and images that a page shows in all, unless samples are asked for by their number: each is made
anew from the data, which is what takes time."""


@dataclass(frozen=True)
class Gathered:
    """sets: of samples that several runs answer, each with the answers. set_of: of each run.
    shown: how many answers of each run are there; promptless: why it has no prompts; confusions: of those
    whose answers are a few labels.
    """

    sets: list[dict[str, Any]]
    set_of: list[int]
    shown: list[int]
    promptless: list[str | None]
    confusions: list[dict[str, Any] | None]


def gather(
    runs: Sequence[ReadRun],
    thumbnails: Thumbnails,
    tick: Callable[[int], None] = lambda count: None,
    *,
    bounded: bool = True,
    kept: Splits | None = None,
) -> Gathered:
    """The samples of all runs with their answers. tick: told how many more answers are done.

    Runs that asked the same prompts, such as those of several models, share one set. bounded: no more than
    PROMPTS and IMAGES in all, but FEWEST samples of each. kept: where the data is kept; else
    that of one task is held at a time.
    """
    together: dict[str, list[int]] = {}
    for number, read in enumerate(runs):
        # An import stays apart: why there is no prompt is said beside each sample, in words of its own.
        asked = msgspec.structs.replace(read.run.record.identity, model=None)
        together.setdefault(value_key(msgspec.to_builtins(asked)), []).append(number)
    of_task: dict[str, list[list[int]]] = {}
    for numbers in together.values():
        record = runs[numbers[0]].run.record
        of_task.setdefault(value_key([record.task.file, record.task.spec]), []).append(numbers)
    blank: list[None] = [None] * len(runs)
    made = Gathered([], [0] * len(runs), [0] * len(runs), list(blank), list(blank))
    left = len(together)
    most = cap([max(len(runs[n].order) for n in numbers) for numbers in together.values()], PROMPTS)
    for sets in of_task.values():
        splits = kept or Splits(Watcher())  # one benchmark's data in memory at a time
        for numbers in sets:
            room = max(0, IMAGES - len(thumbnails)) // left
            left -= 1
            found = _Set(runs[numbers[0]].run, Tables(thumbnails), splits)
            own = [runs[number] for number in numbers]
            if bounded:
                found.make(own, most, room)
            else:
                found.make(own)
            answers = {}
            for number in numbers:
                answers[number] = found.answers(runs[number], tick)
                made.set_of[number] = len(made.sets)
                made.shown[number] = len(answers[number])
                made.promptless[number] = found.promptless
                made.confusions[number] = found.confusion(runs[number])
            made.sets.append(
                {"samples": found.samples, "answers": answers, **found.tables.content()}
            )
    return made


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was shown to get an answer: ids of the demonstrations, digests of each one's images and of the
    query's. digests: None where an image is not what it was."""

    names: tuple[str, ...]
    digests: tuple[tuple[str, ...], ...] | None

    def is_of(self, answer: Answer) -> bool:
        if self.digests is None or self.names[answer.left_out :] != answer.examples:
            return False
        shown = tuple(digest for part in self.digests[answer.left_out :] for digest in part)
        return shown == answer.shown


class _Set:
    """The samples of runs with the same prompts, each made once. promptless: why there are no prompts."""

    def __init__(self, run: ScoredRun, tables: Tables, splits: Splits):
        self.tables = tables
        self.samples: list[dict[str, Any]] = []
        self.questions: Questions | None = None
        self.prompts: Prompts | None = None
        self.promptless: str | None = None
        self._unknown = ""
        self._places: dict[tuple[str, int], int] = {}
        self._asked: dict[int, _Asked] = {}
        try:
            reopened = self._reopened(run, splits)
        except UserError as error:
            self.promptless = error.what + (f" ({error.where})" if error.where else "")
        else:
            reopened.store.close()
            self.questions, self.prompts = reopened.questions, reopened.prompts
        self._references = References(self.questions) if self.questions is not None else None

    def _reopened(self, run: ScoredRun, splits: Splits) -> Reopened:
        try:
            return reopen(run.folder, demonstrations=True, splits=splits)
        except PlanError as error:
            # Nobody knows the prompts of an import, but its samples can be shown.
            self._unknown = error.what
            return reopen(run.folder, splits=splits)

    def make(
        self, runs: Sequence[ReadRun], most: int | None = None, room: int | None = None
    ) -> None:
        """The samples of the runs, in the order in which they were chosen: so many of them, and as far as
        there is room for their images."""
        wanted: dict[str, dict[int, SampleScore]] = {}
        order = dict.fromkeys(name for read in runs for name in read.order)
        for read in runs:
            for score in read.scores:
                wanted.setdefault(score.id, {}).setdefault(score.trial, score)
        before = len(self.tables.thumbnails)
        for name in islice(order, most):
            used = len(self.tables.thumbnails) - before
            if room is not None and used >= room and len(self.samples) >= FEWEST:
                return
            for trial, score in sorted(wanted[name].items()):
                self._places[name, trial] = len(self.samples)
                self.samples.append(self._sample(score))

    def answers(self, read: ReadRun, tick: Callable[[int], None]) -> list[list[Any]]:
        """Those of a run to the samples that were made, as stored."""
        scores = [score for score in read.scores if (score.id, score.trial) in self._places]
        store = RunStore(read.run.folder)
        given = _answers(store, {score.key for score in scores})
        made = [self._answer(score, given.get(score.key), store) for score in scores]
        tick(read.answers)
        return made

    def confusion(self, read: ReadRun) -> dict[str, Any] | None:
        if self._references is None or read.predictions is None or read.laid is None:
            return None
        return confusion(read.laid.keys, read.predictions, self._references)

    def _sample(self, score: SampleScore) -> dict[str, Any]:
        """i: id, t: trial, g: groups; s: system, d: demonstrations with e: why, q: query, j: what joins
        them, r: references, c: choices; or x: why there is no prompt, with p: images and fields of the
        sample where they are there.
        """
        tables = self.tables
        shown: dict[str, Any] = {"i": score.id, "t": score.trial}
        shown["g"] = [tables.text(label) for label in score.labels()]
        if self.questions is None:
            return shown
        position = self.questions.samples.position(score.id)
        if position is None:
            return shown | {"x": tables.text("this sample is no longer in the data")}
        sample = self.questions.query(position)
        shown["r"] = tables.parts(sample.references)
        if sample.choices:
            shown["c"] = [tables.text(choice) for choice in sample.choices]
        why = self._unknown
        if self.prompts is not None:
            try:
                prompted = self.prompts.at(Place(position, score.trial))
            except StoreError:
                raise
            except UserError as error:
                why = str(error)
            else:
                self._asked[len(self.samples)] = _asked(prompted)
                return shown | self._prompt(prompted)
        fields = [f"{name}: {text}\n" for name, text in sample.fields.items()]
        return shown | {"x": tables.text(why), "p": tables.parts((*sample.images, *fields))}

    def _prompt(self, prompted: Prompted) -> dict[str, Any]:
        tables, prompt = self.tables, prompted.prompt
        return {
            "s": tables.maybe(_before(prompt)),
            "d": [tables.turn(turn) for turn in prompt.turns],
            "e": [tables.text(f"{d.sample.id} ({d.why})") for d in prompted.demonstrations],
            "q": tables.parts(prompt.query),
            "j": [tables.text(prompt.lead), tables.text(prompt.separator)],
        }

    def _answer(self, score: SampleScore, answer: Answer | None, store: RunStore) -> list[Any]:
        """[sample, value, text, prediction, images, why unscored, demonstrations left out, whether the
        prompt is another one than was asked, log-probabilities, other details, take, raw text, thought, why
        the reply ended where that is not by itself]; Nones at the end are left out. Texts and images are
        numbers of the tables.
        """
        tables, sample = self.tables, self._places[score.id, score.trial]
        details = {**score.details, **({"unjudged": score.unjudged} if score.unjudged else {})}
        other = (
            answer is not None and sample in self._asked and not self._asked[sample].is_of(answer)
        )
        given = answer or Answer(id=score.id, key="")
        cells = [
            sample,
            score.value,
            tables.maybe(given.text),
            tables.maybe(score.prediction),
            [tables.image(store.image(digest)) for digest in given.images] or None,
            tables.text(score.why or "unscored") if score.value is None else None,
            given.left_out or None,
            1 if other else None,
            [round(value, 3) for value in given.log_probs] if given.log_probs else None,
            tables.text(msgspec.json.encode(details).decode()) if details else None,
            score.take or None,
            tables.maybe(given.raw),
            tables.maybe(given.thought),
            tables.maybe(given.ended if given.ended != "stop" else None),
        ]
        while cells[-1] is None:
            cells.pop()
        return cells


def _before(prompt: Prompt) -> str | None:
    """What stands before demonstrations and query."""
    said = [text for text in (prompt.system, prompt.opening) if text and text.strip()]
    return "\n".join(said) or None


def _asked(prompted: Prompted) -> _Asked:
    names = tuple(each.sample.id for each in prompted.demonstrations)
    prompt = prompted.prompt
    parts = [*((*turn.ask, *turn.reply) for turn in prompt.turns), prompt.query]
    try:
        return _Asked(names, tuple(tuple(map(images.digest, _images(part))) for part in parts))
    except UserError:  # the image is not what it was, which stands in its place
        return _Asked(names, None)


def _images(parts: Sequence[Part]) -> Iterator[Image]:
    for part in parts:
        if isinstance(part, Image):
            yield part
        elif isinstance(part, Video):
            yield from part.frames


def _answers(store: RunStore, wanted: set[Key]) -> dict[Key, Answer]:
    """The last answer to each question, one without an error where there is one."""
    found: dict[Key, Answer] = {}
    for answer in store.answers_to(wanted):
        key = answer.id, answer.trial, answer.take
        if answer.error is None or found.get(key, answer).error is not None:
            found[key] = answer
    return found
