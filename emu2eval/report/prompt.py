"""One query's prompt, part by part, as it goes to the model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.engine.evaluation import Settings, SplitCache, make_plan, open_task
from emu2eval.errors import ConfigError, UnknownName
from emu2eval.fewshot.choosers import Demonstration
from emu2eval.media import frames, images
from emu2eval.spec.config import ModelSpec
from emu2eval.types import Image, Part, Request, Response, Video
from emu2eval.watch import Watcher


class _Nobody(Adapter):
    """A prompt is the same for every model; this one takes any."""

    limits = Limits(frozenset({"text", "choice", "image"}))

    def answer(self, requests: Sequence[Request]) -> Sequence[Response]:
        return [Response(error="nobody answers") for _ in requests]


def show_prompt(
    task_name: str, shots: str, index: int, sample_id: str | None, trial: int, settings: Settings
) -> RenderableType:
    """The prompt of the query at an index in the order of ids, or with an id.

    Raises UnknownName or ConfigError where there is none.
    """
    task = open_task(task_name, settings, [shots], Watcher())
    model = ModelSpec(name="any model", adapter="none")
    (ablation,) = settings.ablate
    plan = make_plan(task, model, _Nobody(), shots, settings, SplitCache(Watcher()), ablation)
    if sample_id is not None:
        found = plan.samples.position(sample_id)
        if found is None:
            raise UnknownName("query", sample_id, plan.samples.ids, where=plan.samples.where)
        index = found
    if not 0 <= index < len(plan.samples):
        raise ConfigError(
            f"--index {index}: {task.name} has queries 0 to {len(plan.samples) - 1} "
            f"in its split {task.split}"
        )
    planned = plan.at(index, trial)
    prompt, sample = planned.request.prompt, planned.sample
    blocks: list[RenderableType] = [
        Text(
            f"{task.name} · protocol {task.protocol_name} · {plan.label} shots · query {sample.id}"
        ),
    ]
    if prompt.system is not None:
        blocks += [_rule("system"), _parts((prompt.system,))]
    for number, (turn, why) in enumerate(zip(prompt.turns, planned.demonstrations, strict=True), 1):
        blocks.append(_rule(f"demonstration {number} of {len(prompt.turns)}", why))
        blocks += [_parts(turn.ask), _parts(turn.reply, "→ ")]
    blocks += [_rule("query"), _parts(prompt.query)]
    blocks += [_rule("wanted"), Text(str(planned.request.output))]
    if sample.references:
        blocks.append(Text("references: " + ", ".join(_shown(r) for r in sample.references)))
    joins = f"as one text: {prompt.lead!r} before a reply, {prompt.separator!r} after it"
    blocks.append(Text(joins, style="dim"))
    return Group(*blocks)


def _rule(title: str, demonstration: Demonstration | None = None) -> RenderableType:
    text = Text(title, style="bold")
    if demonstration is not None:
        text.append(f"  {demonstration.sample.id}  ({demonstration.why})", style="dim")
    return Rule(text, align="left", style="dim")


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
        return f"[image {part.name}, {info.width} x {info.height}, sha256 {info.digest[:16]}…]"
    if isinstance(part, Video):
        name = " " + source[0].rpartition("/")[2] if (source := part.source) else ""
        piece = f" of {frames.named(source[2])}" if source and source[2] else ""
        return f"[video{name}, {len(part.frames)} frames{piece}]"
    return part
