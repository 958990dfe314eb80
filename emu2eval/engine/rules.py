"""Every named way to score a run's stored replies: rules that its scorer declares, and clean-ups in use."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, product
from typing import Any, Literal, get_args, get_origin

import msgspec

from emu2eval import registry
from emu2eval.engine.judges import stored_judge
from emu2eval.engine.judging import Judging, stored_judges
from emu2eval.engine.reopen import Reopened
from emu2eval.engine.scoring import scored
from emu2eval.engine.tasks import opened
from emu2eval.errors import UserError
from emu2eval.runs.scores import SampleScore
from emu2eval.scorers.clean import bare
from emu2eval.scorers.vqa import CONFIDENCE
from emu2eval.spec import catalog
from emu2eval.spec.task import ScoreSpec
from emu2eval.spec.yamlfile import read_yaml
from emu2eval.types import Progress, Row, Sample

MOST = 100
"""Ways that are tried in all their combinations; of more, each choice is changed by itself."""

_LOOKED_AT = 50
"""Samples that are looked at to see what fits."""

LETTERS = ("letter", "mmmu")
"""Scorers that read a letter out of the same replies."""

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Way:
    """A scorer, its options and the clean-up before it. named: the options that were chosen among names."""

    scorer: str
    options: Options
    clean: tuple[str, ...]
    named: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        """What is chosen of the options, such as `variant=official`; the scorer's name where nothing is.

        >>> Way("vizwiz", {"variant": "always"}, (), ("variant",)).rule, Way("gqa", {}, ()).rule
        ('variant=always', 'gqa')
        """
        chosen = [f"{name}={self.options[name]}" for name in self.named if name in self.options]
        return ", ".join(chosen) or self.scorer

    @property
    def assignments(self) -> tuple[str, ...]:
        """The chosen options as --set takes them."""
        chosen = (name for name in self.named if name in self.options)
        return tuple(f"task.score.options.{name}={self.options[name]}" for name in chosen)


def ways(run: Reopened) -> list[Way]:
    """The run's own way first, then all that fit its task.

    Rules are the options that a scorer declares as a choice among names, and the sets of references that
    samples hold. Clean-ups are those of all shipped tasks and protocols with such a scorer, and none.
    """
    spec = run.questions.task.spec
    own = Way(spec.score.scorer, dict(spec.score.options), spec.score.clean)
    sample = next(iter(_referenced(run)), None)
    rules = [
        (scorer, names)
        for scorer in _scorers(own.scorer)
        for names in [_choices(scorer, own if scorer == own.scorer else None, sample)]
    ]
    cleans = [own.clean]
    if spec.output.kind == "text":
        used = (each for each in _in_use(own.scorer) if _keeps(each, run))
        cleans = list(dict.fromkeys([own.clean, (), *used]))
    found = [_filled(own, tuple(dict(rules)[own.scorer]))]
    for scorer, names in rules:
        found += _combined(own, scorer, names, cleans)
    once: dict[str, Way] = {}
    for way in found:
        once.setdefault(repr((way.scorer, sorted(way.options.items()), way.clean)), way)
    return list(once.values())


def _filled(way: Way, named: tuple[str, ...]) -> Way:
    """With the defaults of the named options, so that one that is not given is as one at its default."""
    parameters = inspect.signature(registry.find("scorer", way.scorer)).parameters
    defaults = {name: parameters[name].default for name in named if name in parameters}
    options = {**{k: v for k, v in defaults.items() if isinstance(v, str | bool)}, **way.options}
    return replace(way, options=options, named=named)


def _combined(
    own: Way, scorer: str, names: Mapping[str, tuple[Any, ...]], cleans: list[tuple[str, ...]]
) -> Iterator[Way]:
    base = dict(own.options) if scorer == own.scorer else {}
    settings = [dict(zip(names, values, strict=True)) for values in product(*names.values())]
    pairs = list(product(settings, cleans))
    if len(pairs) > MOST:
        alone = ({name: value} for name, values in names.items() for value in values)
        pairs = [*((chosen, own.clean) for chosen in alone), *(({}, clean) for clean in cleans)]
    for chosen, clean in pairs:
        options = {k: v for k, v in {**base, **chosen}.items() if v is not None}
        yield _filled(Way(scorer, options, clean), tuple(names))


def _scorers(own: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((own, *LETTERS))) if own in LETTERS else (own,)


def _choices(scorer: str, own: Way | None, sample: Sample | None) -> dict[str, tuple[Any, ...]]:
    """Option -> the names that it can have."""
    found: dict[str, tuple[Any, ...]] = {}
    for option in registry.declared(registry.find("scorer", scorer)):
        if get_origin(option.type) is Literal:
            found[option.name] = get_args(option.type)
        elif option.type is bool and _names(scorer, option.name):
            found[option.name] = (False, True)
        elif option.name == "against" and sample is not None:
            sets = tuple(name for name in sample.alternatives if name != CONFIDENCE)
            if sets:
                found[option.name] = (None, *sets)
    return found


def _names(scorer: str, option: str) -> bool:
    """Whether a switch makes another variant of the same metric, such as `exact_match/normalised`."""
    try:
        off, on = (registry.build("scorer", scorer, {option: each}) for each in (False, True))
    except UserError:
        return False  # it needs other options besides
    return bool(off.metric == on.metric and off.variant != on.variant and "text" in on.outputs)


def _referenced(run: Reopened) -> list[Sample]:
    """Some samples that have references."""
    questions = run.questions
    samples = (questions.query(position) for position in questions.positions[:_LOOKED_AT])
    return [sample for sample in samples if sample.references]


def _in_use(scorer: str) -> Iterator[tuple[str, ...]]:
    """The clean-ups of shipped tasks whose scorer is this one or its kin, task by task."""
    kin: dict[str, bool] = {}
    for other, clean in _shipped():
        if other not in kin:
            kin[other] = _kin(other, scorer)
        if kin[other]:
            yield clean


@cache
def _shipped() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(scorer, clean-up) of every shipped task and protocol."""
    found = []
    for path in catalog.names("task").values():
        data = read_yaml(path).data
        own = data.get("score", {})
        for score in (own, *({**own, **p.get("score", {})} for p in data["protocols"].values())):
            if "clean" in score:
                found.append((score["scorer"], tuple(score["clean"])))
    return tuple(dict.fromkeys(found))


def _keeps(clean: tuple[str, ...], run: Reopened) -> bool:
    """It leaves most of the task's own references what they are, unlike one that reads yes or no of words."""
    steps = [registry.find("cleaner", name) for name in clean]
    kept = []
    for sample in _referenced(run):
        for reference in sample.references[:1]:
            if isinstance(reference, str):
                text = reference
                for step in steps:
                    text = step(text)
                kept.append(bare(text).casefold() == bare(reference).casefold())
    return 2 * sum(kept) >= len(kept)


def _kin(one: str, other: str) -> bool:
    if one == other or {one, other} <= set(LETTERS):
        return True
    try:
        found = [registry.find("scorer", name) for name in (one, other)]
    except UserError:
        return False
    if not all(map(inspect.isclass, found)):
        return False
    return issubclass(found[0], found[1]) or issubclass(found[1], found[0])


@dataclass(frozen=True)
class Rescored:
    """What a way makes of the stored replies. why: it does not fit them, in the words of what raised it."""

    way: Way
    headline: Row | None = None
    scores: tuple[SampleScore, ...] = ()
    why: str | None = None


def tried(run: Reopened, way: Way, progress: Progress | None = None) -> Rescored:
    """Scores the run in another way: nothing is asked, and nothing is written. The store must be indexed."""
    try:
        given = run.questions.task.task
        score = ScoreSpec(scorer=way.scorer, options=dict(way.options), clean=way.clean)
        spec = msgspec.structs.replace(given.spec, score=score)
        task = opened(replace(given, spec=spec))
        questions = replace(run.questions, task=task)
        lacks = list(chain.from_iterable(error.parts for error in task.scorer.lacks()))
        if lacks:
            return Rescored(way, why=lacks[0].what)
        judge = None
        if task.judged is not None and stored_judges(run.store.folder):
            judge = stored_judge(task, run.store.folder)
        if judge is None:
            row, scores = scored(run.record, questions, run.store, None, progress)
        else:
            judging = Judging(questions, run.store, judge)
            with judging.open(writing=False):
                row, scores = scored(run.record, questions, run.store, judging, progress)
    except UserError as error:
        return Rescored(way, why=error.parts[0].what)
    return Rescored(way, row, tuple(scores))
