"""One stored answer with its prompt: what the model said, what of it was scored, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from emu2eval.engine.questions import Place, Questions
from emu2eval.engine.reopen import reopen
from emu2eval.errors import ConfigError, UnknownName
from emu2eval.report.prompt import prompt_blocks, rule
from emu2eval.runs.answers import Answer
from emu2eval.runs.record import read_record
from emu2eval.runs.scored import Key
from emu2eval.runs.scores import SCORES, SampleScore, read_scores
from emu2eval.types import ChoiceOutput


def show_answer(folder: Path, index: int, sample_id: str | None, trial: int) -> RenderableType:
    """The prompt and all answers of one query of a run, by its number among the run's queries or by its id.

    Answers that were given elsewhere have no prompt. Raises UserError where there is no such query.
    """
    prompts_known = read_record(folder).imported is None
    run = reopen(folder, demonstrations=prompts_known)
    position = _position(run.questions, index, sample_id, folder)
    if not 0 <= trial < run.questions.trials:
        raise ConfigError(
            f"--trial {trial}: out of range; the run has {run.questions.trials} (numbered from 0)",
            where=folder,
        )
    with run.store:
        store = run.index()
        places = [Place(position, trial, take) for take in range(run.questions.takes)]
        answers = [store.stored(run.questions.slot(place)) for place in places]
    blocks: list[RenderableType] = []
    choices: tuple[str, ...] = ()
    if run.prompts is not None:
        left_out = max((answer.left_out for answer in answers if answer is not None), default=0)
        blocks += prompt_blocks(run.prompts, places[0], left_out)
        output = run.prompts.output(places[0], run.questions.query(position))
        choices = output.choices if isinstance(output, ChoiceOutput) else ()
    scores = _scores(folder, run.questions.samples.ids[position])
    for place, answer in zip(places, answers, strict=True):
        several = f" {place.take + 1} of {len(places)}" if len(places) > 1 else ""
        blocks.append(rule(f"answer{several}"))
        if answer is None:
            blocks.append(Text("no answer yet"))
            continue
        blocks += _lines(answer, choices)
        score = scores.get((answer.id, trial, place.take))
        blocks += [] if score is None else _verdict(score)
    return Group(*blocks)


def _position(questions: Questions, index: int, sample_id: str | None, folder: Path) -> int:
    ids = questions.samples.ids
    asked = list(questions.positions)
    if sample_id is not None:
        found = questions.samples.position(sample_id)
        if found is None or found not in asked:
            raise UnknownName("query", sample_id, [ids[each] for each in asked], where=folder)
        return found
    if not 0 <= index < len(asked):
        raise ConfigError(
            f"--index {index}: out of range; the run has queries 0 to {len(asked) - 1}",
            where=folder,
        )
    return asked[index]


def _scores(folder: Path, sample_id: str) -> Mapping[Key, SampleScore]:
    if not (folder / SCORES).is_file():
        return {}
    return {score.key: score for score in read_scores(folder) if score.id == sample_id}


def _lines(answer: Answer, choices: tuple[str, ...]) -> Iterator[Text]:
    """What the model gave. repr shows spaces and newlines, as in the prompt."""
    if answer.error is not None:
        yield _line("error", answer.error)
    if answer.thought is not None:
        yield _line("thought", repr(answer.thought))
    if answer.raw is not None:
        yield _line("raw text", repr(answer.raw))
    if answer.text is not None:
        yield _line("text", repr(answer.text))
    for digest in answer.images:
        yield _line("image", f"sha256 {digest[:16]}…")
    if answer.log_probs is not None:
        values = [f"{value:.4g}" for value in answer.log_probs]
        named = len(choices) == len(values)
        told = [f"{c!r} {v}" for c, v in zip(choices, values, strict=True)] if named else values
        yield _line("log-probabilities", ", ".join(told))
    if answer.ended is not None:
        yield _line("ended by", answer.ended)
    for mark in answer.marks:
        yield _line("marked", mark.kind if mark.value is None else f"{mark.kind} {mark.value}")


def _verdict(score: SampleScore) -> Iterator[Text]:
    if score.prediction is not None:
        yield _line("compared", repr(score.prediction))
    if score.value is not None:
        yield _line("score", f"{score.value:g}")
    else:
        yield _line("hidden" if score.hidden else "unscored", score.why or "")
    if score.unjudged is not None:
        yield _line("not judged", score.unjudged)


def _line(name: str, text: str) -> Text:
    return Text.assemble((f"{name}: ", "dim"), text)
