"""Stored runs -> what the page shows of each sample: prompt, reply, references, score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from emu2eval.engine.evaluation import reopen
from emu2eval.engine.plan import Plan, Planned
from emu2eval.engine.stored import Answer, Key, StoredRun
from emu2eval.errors import StoreError, UserError
from emu2eval.identity import request_key, value_key
from emu2eval.report.page.tables import Tables
from emu2eval.runs.store import RunStore
from emu2eval.types import Row


def gather(
    runs: Sequence[StoredRun], tables: Tables, tick: Callable[[], None]
) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Every run with its answers, and the sets of samples that they answer.

    Runs that asked the same prompts, such as those of several models, share one set.
    """
    together: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        identity = {k: v for k, v in run.record["identity"].items() if k != "model"}
        # Why there is no prompt is said beside each sample, and each import has a reason of its own.
        identity |= {"imported": run.record.get("imported")}
        together.setdefault(value_key(identity), []).append(number)
    shown: dict[int, dict[str, Any]] = {}
    sets: list[list[dict[str, Any]]] = []
    for numbers in together.values():
        # One benchmark's data in memory at a time.
        found = _Set(len(sets), runs[numbers[0]], tables)
        for number in numbers:
            shown[number] = _run(runs[number], found, tables, tick)
        sets.append(found.samples)
    return [shown[number] for number in range(len(runs))], sets


class _Set:
    """The samples of runs with the same prompts, each made once. promptless: why there are no prompts."""

    def __init__(self, number: int, run: StoredRun, tables: Tables):
        self.number = number
        self.tables = tables
        self.samples: list[dict[str, Any]] = []
        self.plan: Plan | None = None
        self.promptless: str | None = None
        self._places: dict[Key, int] = {}
        self._last: tuple[tuple[int, int], Planned] | None = None
        try:
            self.plan, store = reopen(run.folder, demonstrations=True)
            store.close()
        except UserError as error:
            self.promptless = error.what + (f" ({error.where})" if error.where else "")

    def place(self, answer: Answer) -> int:
        """The number of the answer's sample."""
        key = answer.id, answer.trial
        if key not in self._places:
            self._places[key] = len(self.samples)
            self.samples.append(self._sample(answer))
        return self._places[key]

    def _sample(self, answer: Answer) -> dict[str, Any]:
        """i: id, t: trial, g: groups; s: system, d: demonstrations with e: why, q: query, j: what joins
        them, r: references, c: choices; or x: why there is no prompt, with p: images and fields of the
        sample where they are there.
        """
        tables = self.tables
        shown: dict[str, Any] = {"i": answer.id, "t": answer.trial}
        shown["g"] = [tables.text(label) for label in answer.labels()]
        if self.plan is None:
            return shown
        position = self.plan.samples.position(answer.id)
        if position is None:
            return shown | {"x": tables.text("the data does not hold this sample")}
        sample = self.plan.query(position)
        shown["r"] = tables.parts(sample.references)
        if sample.choices:
            shown["c"] = [tables.text(choice) for choice in sample.choices]
        try:
            planned = self._planned(self.plan, position, answer.trial)
        except StoreError:
            raise
        except UserError as error:
            fields = [f"{name}: {text}\n" for name, text in sample.fields.items()]
            why = str(error) if self.plan.imported is None else error.what
            return shown | {
                "x": tables.text(why),
                "p": tables.parts((*sample.images, *fields)),
            }
        prompt = planned.request.prompt
        shown["s"] = tables.maybe(prompt.system)
        shown["d"] = [tables.turn(turn) for turn in prompt.turns]
        shown["e"] = [tables.text(f"{d.sample.id} ({d.why})") for d in planned.demonstrations]
        shown["q"] = tables.parts(prompt.query)
        shown["j"] = [tables.text(prompt.lead), tables.text(prompt.separator)]
        return shown

    def asked(self, answer: Answer, stored: Mapping[str, Any], model: str) -> bool:
        """Whether the stored reply was given to the prompt that the page shows. True without a prompt."""
        position = self.plan.samples.position(answer.id) if self.plan is not None else None
        if self.plan is None or position is None or "q" not in self.samples[self.place(answer)]:
            return True
        request = self._planned(self.plan, position, answer.trial).request
        return request_key(request.prompt, request.output, model) == stored.get("key")

    def _planned(self, plan: Plan, position: int, trial: int) -> Planned:
        # A sample is asked for twice in a row, once to show its prompt and once to check it.
        if self._last is None or self._last[0] != (position, trial):
            self._last = (position, trial), plan.at(position, trial)
        return self._last[1]


def _run(run: StoredRun, found: _Set, tables: Tables, tick: Callable[[], None]) -> dict[str, Any]:
    store = RunStore(run.folder)
    replies = _replies(store)
    model = value_key(run.record["identity"]["model"])
    answers = []
    for answer in run.answers.values():
        stored = replies.get((answer.id, answer.trial), {})
        answers.append(_answer(found, answer, stored, store, model, tables))
        tick()
    head = run.rows[0]
    return {
        "name": run.folder.name,
        "task": run.task,
        "model": run.model,
        "shots": run.shots,
        "protocol": head.protocol,
        "split": head.split,
        "percent": _percent(run),
        "rows": [_row(row) for row in run.rows],
        "set": found.number,
        "promptless": found.promptless,
        "answers": answers,
    }


def _answer(
    found: _Set,
    answer: Answer,
    stored: Mapping[str, Any],
    store: RunStore,
    model: str,
    tables: Tables,
) -> list[Any]:
    """[sample, value, text, prediction, image, why unscored, demonstrations dropped, whether the prompt
    is another one than was asked, log-probabilities, other details]; Nones at the end are left out.
    """
    details = dict(answer.details)
    why = details.pop("why", None)
    log_probs = stored.get("log_probs")
    digest = stored.get("image")
    cells = [
        found.place(answer),
        answer.value,
        tables.maybe(stored.get("text")),
        tables.maybe(answer.prediction),
        tables.image(store.image(digest)) if digest else None,
        tables.text(str(why or "unscored")) if answer.value is None else None,
        stored.get("details", {}).get("dropped") or None,
        None if not stored or found.asked(answer, stored, model) else 1,
        [round(value, 3) for value in log_probs] if log_probs else None,
        tables.text(msgspec.json.encode(details).decode()) if details else None,
    ]
    while cells[-1] is None:
        cells.pop()
    return cells


def _replies(store: RunStore) -> dict[Key, dict[str, Any]]:
    """The last reply to each, one without an error where there is one."""
    replies: dict[Key, dict[str, Any]] = {}
    for row in store.rows():
        key = row["id"], row["trial"]
        if not row.get("error") or replies.get(key, row).get("error"):
            replies[key] = row
    return replies


def _row(row: Row) -> dict[str, Any]:
    low, high = row.low, row.high
    if low is None and row.value is not None and row.stderr is not None:
        # A report of an older version has no ends.
        low, high = row.value - 1.96 * row.stderr, row.value + 1.96 * row.stderr
    kept = ("metric", "value", "n", "unscored", "group", "chance", "ceiling", "trials", "notes")
    return {
        **{name: getattr(row, name) for name in kept},
        "low": low,
        "high": high,
        "better": row.higher_is_better,
        "scaled": row.set_scaled,
    }


def _percent(run: StoredRun) -> bool:
    """Whether the headline is a share of the samples in percent, as a radar needs of all its axes."""
    head = run.rows[0]
    try:
        scale = run.scorer.scale
    except UserError:
        return False
    return (
        scale == 100
        and head.higher_is_better
        and not head.set_scaled
        and head.value is not None
        and all(0 <= value <= 1 for value in _values(run))
    )


def _values(run: StoredRun) -> Iterator[float]:
    return (answer.value for answer in run.answers.values() if answer.value is not None)
