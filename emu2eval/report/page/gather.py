"""Stored runs -> what the page shows of each sample: prompt, reply, references, score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from emu2eval.compare.comparable import Measure
from emu2eval.engine.prompting import Prompted, Prompts
from emu2eval.engine.questions import Place, Questions
from emu2eval.engine.reopen import Reopened, reopen
from emu2eval.engine.tasks import scorer_of
from emu2eval.errors import PlanError, StoreError, UserError
from emu2eval.identity import value_key
from emu2eval.media import images
from emu2eval.report.curves import is_on_curve
from emu2eval.report.notes import notes
from emu2eval.report.page.tables import Tables
from emu2eval.runs.answers import Answer
from emu2eval.runs.apart import labels
from emu2eval.runs.scored import Key, ScoredRun
from emu2eval.runs.scores import SampleScore
from emu2eval.runs.store import RunStore
from emu2eval.types import Prompt, Row


def gather(
    runs: Sequence[ScoredRun], tables: Tables, tick: Callable[[], None]
) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Every run with its answers, and the sets of samples that they answer.

    Runs that asked the same prompts, such as those of several models, share one set.
    """
    together: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        # An import stays apart: why there is no prompt is said beside each sample, in words of its own.
        asked = msgspec.structs.replace(run.record.identity, model=None)
        together.setdefault(value_key(msgspec.to_builtins(asked)), []).append(number)
    names = labels([run.record for run in runs], seeds=True)
    shown: dict[int, dict[str, Any]] = {}
    sets: list[list[dict[str, Any]]] = []
    for numbers in together.values():
        # One benchmark's data in memory at a time.
        found = _Set(len(sets), runs[numbers[0]], tables)
        for number in numbers:
            shown[number] = _run(runs[number], names[number], found, tables, tick)
        sets.append(found.samples)
    return [shown[number] for number in range(len(runs))], sets


class _Set:
    """The samples of runs with the same prompts, each made once. promptless: why there are no prompts."""

    def __init__(self, number: int, run: ScoredRun, tables: Tables):
        self.number = number
        self.tables = tables
        self.samples: list[dict[str, Any]] = []
        self.questions: Questions | None = None
        self.prompts: Prompts | None = None
        self.promptless: str | None = None
        self._unknown = ""
        self._places: dict[tuple[str, int], int] = {}
        self._last: tuple[Place, Prompted] | None = None
        try:
            reopened = self._reopened(run)
        except UserError as error:
            self.promptless = error.what + (f" ({error.where})" if error.where else "")
        else:
            reopened.store.close()
            self.questions, self.prompts = reopened.questions, reopened.prompts

    def _reopened(self, run: ScoredRun) -> Reopened:
        try:
            return reopen(run.folder, demonstrations=True)
        except PlanError as error:
            # Nobody knows the prompts of an import, but its samples can be shown.
            self._unknown = error.what
            return reopen(run.folder)

    def place(self, score: SampleScore) -> int:
        """The number of the score's sample; all takes of a trial share it."""
        key = score.id, score.trial
        if key not in self._places:
            self._places[key] = len(self.samples)
            self.samples.append(self._sample(score))
        return self._places[key]

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
            return shown | {"x": tables.text("the data does not hold this sample")}
        sample = self.questions.query(position)
        shown["r"] = tables.parts(sample.references)
        if sample.choices:
            shown["c"] = [tables.text(choice) for choice in sample.choices]
        why = self._unknown
        if self.prompts is not None:
            try:
                prompted = self._prompted(self.prompts, Place(position, score.trial))
            except StoreError:
                raise
            except UserError as error:
                why = str(error)
            else:
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

    def is_of(self, answer: Answer, sample: int) -> bool:
        """Whether the answer was given to the prompt that the page shows. True without a prompt."""
        if self.questions is None or self.prompts is None or "q" not in self.samples[sample]:
            return True
        position = self.questions.samples.position(answer.id)
        if position is None:
            return True
        shown = self._prompted(self.prompts, Place(position, answer.trial)).shorter(answer.left_out)
        names = tuple(each.sample.id for each in shown.demonstrations)
        try:
            digests = tuple(images.digest(image) for image in shown.prompt.images())
        except UserError:  # the image is not what it was, which stands in its place
            return False
        return names == answer.examples and digests == answer.shown

    def _prompted(self, prompts: Prompts, place: Place) -> Prompted:
        # A sample is asked for twice in a row, once to show its prompt and once to check it.
        if self._last is None or self._last[0] != place:
            self._last = place, prompts.at(place)
        return self._last[1]


def _before(prompt: Prompt) -> str | None:
    """What stands before demonstrations and query."""
    said = [text for text in (prompt.system, prompt.opening) if text and text.strip()]
    return "\n".join(said) or None


def _run(
    run: ScoredRun, name: str, found: _Set, tables: Tables, tick: Callable[[], None]
) -> dict[str, Any]:
    store = RunStore(run.folder)
    given = _answers(store)
    answers = []
    for score in run.scores.values():
        answers.append(_answer(found, score, given.get(score.key), store, tables))
        tick()
    head = run.rows[0]
    return {
        "name": run.name,
        "task": run.task,
        "model": name,
        "shots": head.setting,
        "count": head.shots.count if is_on_curve(head) else None,
        "seed": head.seed,
        "protocol": head.protocol_label,
        "split": head.split,
        "measure": value_key(Measure.of(head)),
        "percent": _percent(run),
        "rows": [_row(row) for row in run.rows],
        "set": found.number,
        "promptless": found.promptless,
        "answers": answers,
    }


def _answer(
    found: _Set, score: SampleScore, answer: Answer | None, store: RunStore, tables: Tables
) -> list[Any]:
    """[sample, value, text, prediction, images, why unscored, demonstrations left out, whether the prompt is
    another one than was asked, log-probabilities, other details, take, raw text, thought, why the reply ended
    where that is not by itself]; Nones at the end are left out. Texts and images are numbers of `tables`.
    """
    sample = found.place(score)
    details = {**score.details, **({"unjudged": score.unjudged} if score.unjudged else {})}
    other = answer is not None and not found.is_of(answer, sample)
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


def _answers(store: RunStore) -> dict[Key, Answer]:
    """The last answer to each question, one without an error where there is one."""
    found: dict[Key, Answer] = {}
    for answer in store.answers():
        key = answer.id, answer.trial, answer.take
        if answer.error is None or found.get(key, answer).error is not None:
            found[key] = answer
    return found


def _row(row: Row) -> dict[str, Any]:
    kept = ("value", "low", "high", "n", "unscored", "group", "chance", "ceiling", "trials")
    return {
        **{name: getattr(row, name) for name in kept},
        "metric": row.label,
        "notes": notes(row),
        "better": row.higher_is_better,
    }


def _percent(run: ScoredRun) -> bool:
    """Whether the headline is a share of the samples in percent, as a radar needs of all its axes."""
    head = run.rows[0]
    try:
        scale = scorer_of(run.record).scale
    except UserError:
        return False
    return (
        scale == 100
        and head.higher_is_better
        and not head.set_scaled
        and head.value is not None
        and all(0 <= value <= 1 for value in _values(run))
    )


def _values(run: ScoredRun) -> Iterator[float]:
    return (score.value for score in run.scores.values() if score.value is not None)
