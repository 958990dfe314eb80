"""`emu2eval check --task`: what a run of the task would say, short of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from emu2eval.adapters.conformance import Finding
from emu2eval.data.load import takes_shots
from emu2eval.data.samples import Samples
from emu2eval.data.sources import choose
from emu2eval.doctor import data_check
from emu2eval.doctor.file_check import task_faults
from emu2eval.engine.prompting import Prompts
from emu2eval.engine.questions import Place, Questions
from emu2eval.engine.splits import Splits
from emu2eval.engine.tasks import OpenTask, opened
from emu2eval.errors import (
    ImageError,
    MissingExtra,
    PlanError,
    UserError,
    of_part,
    origin,
    raise_together,
)
from emu2eval.fewshot.choosers import Chooser
from emu2eval.media import images
from emu2eval.prompts import PromptBuilder
from emu2eval.scorers.base import Scorer
from emu2eval.spec.changes import Changes
from emu2eval.spec.task import load_task
from emu2eval.types import Image, Prompt, Response, Sample, Video
from emu2eval.watch import Watcher

SHOTS = 4
"""Demonstrations of the prompts that are built, where none are asked for."""

LOOKED_AT = 50
"""Queries whose prompts are built with demonstrations, spread over the split."""

MOST = 5_000
"""Samples of a split that are looked at one by one."""

DIGESTED = 4_000
"""Images whose bytes are compared; of more, their names."""


def check_task(
    name: str,
    source: str | None = None,
    *,
    shots: Sequence[str] = (),
    protocol: str | None = None,
    split: str | None = None,
    changes: Changes | None = None,
) -> Iterator[Finding]:
    """The file, then the data of its queries and demonstrations, prompts with and without demonstrations,
    and whether the scorer can read the references; at last the other splits. No model is asked."""
    faults = task_faults(name)
    if faults:
        yield from (Finding(f"task {name}", False, str(fault)) for fault in faults)
        return
    loaded = load_task(
        name, protocol=protocol, split=split, overrides=changes.task if changes else {}
    )
    yield Finding(f"task {name}", True, f"protocols {', '.join(loaded.spec.protocols)}")
    task = opened(loaded)
    wanted = [task.split]
    if task.spec.demonstrations.refused is None or task.spec.demonstrations.split:
        wanted.append(task.pool_split)
    others = [each for each in task.spec.data.splits if each not in wanted]
    notes: list[str] = []
    data = Splits(_Notes(notes))
    read: dict[str, Samples] = {}
    for each in dict.fromkeys([*wanted, *others]):
        yield tried(f"split {each}", partial(_read, task, each, source, data, read))
    for note in dict.fromkeys(notes):
        yield Finding("note", True, note, warns=True)
    if task.split in read:
        yield from _check_queries(task, read[task.split], "queries")
        if len(wanted) > 1 and task.pool_split in read and task.pool_split != task.split:
            yield from _check_queries(task, read[task.pool_split], "demonstrations")
            if not task.spec.output.random:
                yield from _overlap(read[task.split], read[task.pool_split])
        known = read[task.split]

        def reread(count: int) -> Samples:
            # Few readers make other queries for other numbers of demonstrations.
            return (
                data.split(sourced, task.split, count)
                if takes_shots(task.task, task.split)
                else known
            )

        sourced = replace(task, task=choose(task.task, [task.split], source)[0])
        yield from _check_prompts(task, read, shots, len(wanted) > 1, reread)
        yield from _check_references(task, read[task.split])


class _Notes(Watcher):
    def __init__(self, notes: list[str]):
        self.notes = notes

    def note(self, text: str) -> None:
        self.notes.append(text)


def tried(rule: str, attempt: Callable[[], str]) -> Finding:
    """A finding of what an attempt gives, or raises."""
    try:
        return Finding(rule, True, attempt())
    except MissingExtra as error:
        # An extra is a choice: nothing is wrong with a file that wants one.
        return Finding(rule, True, f"optional: {error.what}: {error.hint}")
    except UserError as error:
        return Finding(rule, False, str(error))


def _read(
    task: OpenTask, split: str, source: str | None, data: Splits, read: dict[str, Samples]
) -> str:
    chosen, notes = choose(task.task, [split], source)
    for note in notes:
        data.watcher.note(note)
    samples = data.split(replace(task, task=chosen), split, 0)
    read[split] = samples
    for query in samples:
        if query.unreadable is None:
            break
    shown = [images.info(image).upright for image in islice(_images(query), 4)]
    sizes = ", ".join(f"{width} x {height}" for width, height in shown)
    return f"{len(samples):,} samples; the first shows {sizes or 'no image'}"


def _images(sample: Sample) -> Iterator[Image]:
    for each in (*sample.images, sample.answer):
        if isinstance(each, Video):
            yield from each.frames
        elif isinstance(each, Image):
            yield each


# -- samples --------------------------------------------------------------------------------------


def _check_queries(task: OpenTask, samples: Samples, role: str) -> Iterator[Finding]:
    seen = data_check.walk(samples)
    for what, (count, first) in seen.faults.items():
        if what != "cannot be read":  # which a run says, too, and the note has said
            yield Finding(role, True, f"{count:,} {what}; the first is {first}", warns=True)
    gone = data_check.missing(seen.images.values())
    if gone:
        says = f"{len(gone):,} of {len(seen.images):,} images are missing; the first: {gone[0]}"
        hint = "\n  try:   check the paths; --skip-missing skips their samples and counts them"
        yield Finding(f"images of {role}", False, says + hint)
    else:
        spread = list(seen.images.values())
        looked = spread[:: max(1, len(spread) // LOOKED_AT)][:LOOKED_AT]
        broken = data_check.broken(looked, lambda done: None)
        for error in broken[:3]:
            yield Finding(f"images of {role}", False, str(error))
    # Many drawings may be wanted of the same words.
    twice = None if task.spec.output.random else _twice(samples)
    if twice is not None:
        yield Finding(role, True, twice, warns=True)


def _twice(samples: Samples) -> str | None:
    """Samples that ask the same about the same images, under several ids."""
    known: dict[object, str] = {}
    found: list[tuple[str, str]] = []
    for sample in islice(samples, MOST):
        if sample.unreadable is not None:
            continue
        key = (
            _texts(sample),
            tuple(
                images.where(image) if image.path else repr(image.data) for image in _shown(sample)
            ),
            sample.choices,
            sample.cluster,  # such as an episode with demonstrations of its own
        )
        if not any(key[:2]):
            continue
        first = known.setdefault(key, sample.id)
        if first != sample.id:
            found.append((first, sample.id))
    if not found:
        return None
    return f"{len(found):,} repeat another one's question and images: {found[0][1]} repeats {found[0][0]}"


def _texts(sample: Sample) -> tuple[tuple[str, str], ...]:
    """What templates can show of a sample; a column that only repeats its id tells nothing apart."""
    return tuple(sorted(item for item in sample.fields.items() if item[1] != sample.id))


def _shown(sample: Sample) -> Iterator[Image]:
    for each in sample.images:
        if isinstance(each, Video):
            yield from each.frames
        else:
            yield each


def _overlap(queries: Samples, pool: Samples) -> Iterator[Finding]:
    """How many queries show an image that demonstrations show too, or ask what one of them answers."""
    every = [sample for samples in (queries, pool) for sample in islice(samples, MOST)]
    count = sum(1 for sample in every for _ in _shown(sample))
    by = images.digest if count <= DIGESTED else images.where
    shown: set[str] = set()
    asked: set[object] = set()
    for sample in islice(pool, MOST):
        shown.update(_names(sample, by))
        asked.add((_texts(sample), frozenset(_names(sample, by))))
    shared, same, first = 0, 0, ""
    for sample in islice(queries, MOST):
        own = frozenset(_names(sample, by))
        if own & shown:
            shared += 1
            first = first or sample.id
        same += (_texts(sample), own) in asked
    if shared:
        yield Finding(
            "leakage",
            True,
            f"{shared:,} queries share an image with the demonstration pool; the first is {first}. "
            "A query is "
            "never shown its own image as a demonstration, but a model trained on the pool has seen it",
            warns=True,
        )
    if same and same > shared:
        yield Finding(
            "leakage",
            True,
            f"{same:,} queries have the same question and answer as a demonstration in the pool",
            warns=True,
        )


def _names(sample: Sample, by: Callable[[Image], str]) -> Iterator[str]:
    for image in _shown(sample):
        try:
            yield by(image)
        except ImageError:
            continue  # which is told by itself


# -- prompts --------------------------------------------------------------------------------------


@dataclass
class _Failures:
    """Samples that fail in one way are told once, with the first of them."""

    count: int = 0
    first: str = ""
    error: UserError | None = None

    def add(self, name: str, error: UserError) -> None:
        self.count += 1
        self.first = self.first or name
        self.error = self.error or error

    def finding(self, rule: str) -> Finding:
        more = f" ({self.count:,} such samples)" if self.count > 1 else ""
        return Finding(rule, False, f"{self.error}{more}")


def _each(samples: Iterable[Sample], attempt: Callable[[Sample], object]) -> list[_Failures]:
    """What the attempt raises for samples, by the place that it names."""
    found: dict[str, _Failures] = {}
    for sample in samples:
        try:
            attempt(sample)
        except UserError as error:
            kind = f"{type(error).__name__} {error.where} {error.hint}"
            found.setdefault(kind, _Failures()).add(sample.id, error)
    return list(found.values())


def _check_prompts(
    task: OpenTask,
    read: dict[str, Samples],
    shots: Sequence[str],
    shows: bool,
    reread: Callable[[int], Samples],
) -> Iterator[Finding]:
    queries = read[task.split]
    builder = PromptBuilder(task.protocol, task.document.where(("protocols", task.protocol_name)))
    questions = Questions(task, queries)
    asked = [questions.query(at) for at in islice(questions.asked, MOST)]
    failures = _each(asked, lambda sample: builder.build(sample, []))
    yield from (each.finding("prompts") for each in failures)
    failures += _each(asked[:LOOKED_AT], lambda sample: task.spec.output.build(sample.choices, 0))
    pool = read.get(task.pool_split) if shows else None
    if pool is not None and asked:
        readable = [each for each in islice(pool, MOST) if each.unreadable is None]
        told = _each(readable, lambda sample: builder.build(asked[0], [sample]))
        yield from (each.finding("demonstrations") for each in told)
        failures += told
    if failures:
        return
    for each in dict.fromkeys(shots or ("0", *([str(SHOTS)] if pool is not None else []))):
        yield tried(f"{each} shots", partial(_prompts, task, questions, pool, each, reread))


def _prompts(
    task: OpenTask,
    questions: Questions,
    pool: Samples | None,
    asked: str,
    reread: Callable[[int], Samples],
) -> str:
    """Prompts of queries spread over the split, as a run would ask them."""
    shots = task.shots(asked)
    chooser: Chooser | None = None
    questions = replace(questions, samples=reread(shots.count))
    if shots.count:
        if pool is None:
            raise PlanError("no split to draw demonstrations from")
        pool = pool.readable()
        with of_part("chooser", task.spec.demonstrations.chooser):
            chooser = task.chooser(pool, 0)
            raise_together(chooser.lacks())
        if type(chooser).prepare is not Chooser.prepare:
            return f"not built here: {task.spec.demonstrations.chooser} computes features first"
    every = questions.asked
    places = every[:: max(1, len(every) // LOOKED_AT)][:LOOKED_AT]
    made = Prompts(questions, shots, pool if shots.count else None, chooser)
    built = []
    failed: ImageError | None = None
    for at in places:
        try:  # an image costs its own query alone, and is told by itself
            built.append(made.at(Place(at)).prompt)
        except ImageError as error:
            failed = error
    if not built:
        raise PlanError(
            "no prompt can be built, because each has an image that cannot be used"
            + (f"; for example, {failed.what}" if failed else ""),
            where=failed.where if failed else None,
        )
    return f"{len(built):,} prompts built; {_sizes(built)}"


def _sizes(built: Sequence[Prompt]) -> str:
    shown = [sum(1 for _ in prompt.images()) for prompt in built]
    letters = max(
        sum(len(part) for part in prompt.parts() if isinstance(part, str)) for prompt in built
    )
    several = str(min(shown)) if min(shown) == max(shown) else f"{min(shown)} to {max(shown)}"
    one = "image" if several == "1" else "images"
    return f"{several} {one} each, at most {letters:,} characters"


# -- references -----------------------------------------------------------------------------------


def _check_references(task: OpenTask, queries: Samples) -> Iterator[Finding]:
    """Each query answered by its own reference: what the scorer cannot read, and what it calls wrong."""
    rule = f"scorer {task.spec.score.scorer}"
    lacks = [part for error in task.scorer.lacks() for part in error.parts]
    if lacks:
        yield from (Finding(rule, False, str(lack)) for lack in lacks)
        return
    scorer = task.scorer
    whole = type(scorer).prepare is not Scorer.prepare
    if whole or task.judged is not None or task.spec.output.kind != "text":
        return  # it needs all answers at once, a judge, images or log-probabilities
    questions = Questions(task, queries)
    zero: list[str] = []
    none = 0
    hidden = 0

    def answered(sample: Sample) -> None:
        nonlocal none, hidden
        texts = [each for each in (sample.answer, *sample.references) if isinstance(each, str)]
        if not sample.references or not texts:
            hidden += 1
        try:
            score = scorer.score(sample, Response(text=task.clean(texts[0] if texts else "")))
        except UserError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise PlanError(f"sample {sample.id!r}: {said}", where=origin(error)) from None
        if score.hidden:
            return
        if score.value is None:
            raise PlanError(f"sample {sample.id!r}: {score.why}", where=rule)
        none += 1
        if score.value == 0 and scorer.higher_is_better:
            zero.append(sample.id)

    asked = [questions.query(at) for at in islice(questions.asked, MOST)]
    failed = _each(asked, answered)
    yield from (each.finding(rule) for each in failed)
    if failed:
        return
    if hidden == len(asked):
        yield Finding(
            rule,
            True,
            "no query has references, so nothing can be scored",
            warns=True,
        )
    elif zero:
        yield Finding(
            rule,
            True,
            f"{len(zero):,} of {none:,} queries score 0 when answered with their own reference; the first "
            f"is {zero[0]}. Check `clean` and the references",
            warns=True,
        )
    else:
        yield Finding(rule, True, f"reads the references of {none:,} queries")
