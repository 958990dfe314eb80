"""One query's prompt, part by part, as it goes to the model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.rule import Rule
from rich.text import Text

from emu2eval.engine.options import RunOptions
from emu2eval.engine.prompting import Prompts
from emu2eval.engine.questions import Place, questions_of
from emu2eval.engine.splits import Splits
from emu2eval.engine.tasks import open_task
from emu2eval.errors import ConfigError, UnknownName
from emu2eval.fewshot.choosers import Demonstration
from emu2eval.media import frames, images
from emu2eval.types import Image, Part, Video
from emu2eval.watch import Watcher


def show_prompt(
    task_name: str,
    index: int,
    sample_id: str | None,
    trial: int,
    options: RunOptions,
    data: Splits | None = None,
) -> RenderableType:
    """The prompt of the query at an index in the order of ids, or with an id.

    options: with one number of shots and one ablation; data: what was read before. Raises
    UnknownName or ConfigError where there is no such query.
    """
    prompts = _prompts(task_name, options, data or Splits(Watcher()))
    task, samples = prompts.questions.task, prompts.questions.samples
    if sample_id is not None:
        found = samples.position(sample_id)
        if found is None:
            raise UnknownName("query", sample_id, samples.ids, where=samples.where)
        index = found
    if not 0 <= index < len(samples):
        raise ConfigError(
            f"--index {index}: {task.name} has queries 0 to {len(samples) - 1} in split {task.split}"
        )
    return Group(*prompt_blocks(prompts, Place(index, trial)))


def prompt_blocks(prompts: Prompts, place: Place, left_out: int = 0) -> list[RenderableType]:
    """The prompt of a place, part by part. left_out: of its demonstrations, the farthest."""
    task = prompts.questions.task
    prompted = prompts.at(place, left_out)
    prompt, sample = prompted.prompt, prompted.sample
    shots = str(prompts.shots)
    if prompts.ablation != "none":
        shots += f" ({prompts.ablation})"
    blocks: list[RenderableType] = [
        Text(f"{task.name} · protocol {task.protocol_name} · {shots} shots · query {sample.id}"),
    ]
    if prompt.system is not None:
        blocks += [rule("system"), _parts((prompt.system,))]
    for number, (turn, why) in enumerate(
        zip(prompt.turns, prompted.demonstrations, strict=True), 1
    ):
        blocks.append(rule(f"demonstration {number} of {len(prompt.turns)}", why))
        blocks += [_parts(turn.ask), _parts(turn.reply, "→ ")]
    before, first = prompts.before(prompted), task.protocol.first
    if before is not None and first is not None:
        said = ", ".join(f"{choice!r} means {answer!r}" for choice, answer in first.answers.items())
        blocks += [rule("asked first"), _parts(before.query)]
        blocks.append(Text(f"one of {', '.join(first.choices)}; {said}", style="dim"))
    blocks += [rule("query"), _parts(prompt.query)]
    output = prompts.output(place, sample)
    blocks += [rule("output"), Text(str(output))]
    if sample.references:
        blocks.append(Text("references: " + ", ".join(_shown(r) for r in sample.references)))
    joins = f"as one text: {prompt.lead!r} before a reply, {prompt.separator!r} after it"
    if prompt.opening is not None:
        joins += f"; in one message for models with roles, behind {prompt.opening!r}"
    blocks.append(Text(joins, style="dim"))
    return blocks


def _prompts(task_name: str, options: RunOptions, data: Splits) -> Prompts:
    """A prompt is the same for every model, so that none is needed."""
    task = open_task(
        task_name,
        options.changes,
        shots=options.shots,
        protocol=options.protocol,
        split=options.split,
        source=options.source,
    )
    (given,), (ablation,) = options.shots, options.ablate
    shots = task.shots(given)
    samples = data.split(task, task.split, shots=shots.count)
    pool, chooser = data.chooser(task, options.seed) if shots.count else (None, None)
    questions = questions_of(task, samples, shots, options.extent(len(samples)))
    return Prompts(questions, shots, pool, chooser, options.seed, ablation)


def rule(title: str, demonstration: Demonstration | None = None) -> RenderableType:
    text = Text(title, style="bold")
    if demonstration is not None:
        text.append(f"  {demonstration.sample.id}  ({demonstration.why})", style="dim")
    # As wide as a terminal's usual line: piped into a file, a rule would fill a thousand columns.
    return Constrain(Rule(text, align="left", style="dim"), max(80, text.cell_len + 4))


def _parts(parts: Sequence[Part], lead: str = "") -> Text:
    text = Text(lead)
    for part in parts:
        # repr shows spaces and newlines, which matter to a model and are easily missed.
        text.append(
            _shown(part) if not isinstance(part, str) else repr(part),
            style="" if isinstance(part, str) else "cyan",
        )
        text.append("\n" + " " * len(lead))
    text.rstrip()
    return text


def _shown(part: Part) -> str:
    if isinstance(part, Image):
        info = images.info(part)
        width, height = info.upright
        return f"[image {part.name}, {width} x {height}, sha256 {info.digest[:16]}…]"
    if isinstance(part, Video):
        name = " " + source[0].rpartition("/")[2] if (source := part.source) else ""
        piece = f" of {frames.named(source[2])}" if source and source[2] else ""
        return f"[video{name}, {len(part.frames)} frames{piece}]"
    return part
