"""The values that flow through an evaluation. All are frozen; none knows a file format or a model."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=10**12)]
"""How many of something; bounded where it is read from a file."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a video: from `start` to before `end`, in seconds or, with in_frames, in frames from 0."""

    start: float
    end: float
    in_frames: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """One encoded image, by path or by its bytes; `emu2eval.media.images` opens it late.

    member: its position in the file, for an image inside a parquet or TSV file.
    frame: (i, n) makes it one of n frames, evenly spread over the video at the path: the i-th, from 0;
    segment: only over that part of the video.
    Its identity is the sha256 of its encoded bytes (`images.digest`), never its path; that of a frame is
    derived from the video's and the frame's position, so nothing needs to be decoded.
    Pickled, it takes along what is known of it and where, but nothing of a file: whoever reads the bytes,
    on another node, compares them with what was promised.
    """

    path: str | None = None
    data: bytes | None = field(default=None, repr=False)
    member: str | None = None
    frame: tuple[int, int] | None = None
    segment: Segment | None = None
    _info: Any = field(default=None, init=False, repr=False, compare=False)
    _digest: str | None = field(default=None, init=False, repr=False, compare=False)
    """sha256 of the file's bytes that was promised by whoever made the value: a frame's is its video's."""
    _node: str | None = field(default=None, init=False, repr=False, compare=False)
    """The machine where it was promised; None = in this process."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.data is None):
            raise ValueError("an Image takes exactly one of path and data")
        if self.member is not None and self.path is None:
            raise ValueError("only an Image with a path can be a member of a file")
        if self.frame is not None and self.path is None:
            raise ValueError("a frame needs the path of its video")

    @classmethod
    def known(cls, path: str, digest: str) -> Image:
        """An image with a digest known by whoever stores it, so the file does not need to be read."""
        image = cls(path)
        object.__setattr__(image, "_digest", digest)
        return image

    def __reduce__(self) -> tuple[Any, ...]:
        node = self._node
        if node is None and (self._info is not None or self._digest is not None):
            node = this_node()
        known = (self._info, self._digest, node)
        return _arrived, (self.path, self.data, self.member, self.frame, self.segment, known)

    @property
    def name(self) -> str:
        """A readable name: its file's name, and its position inside that file if it has one."""
        if self.path is None:
            return "made in memory"
        file = self.path.rpartition("/")[2]
        if self.frame is not None:
            return f"{file}#{self.frame[0] + 1} of {self.frame[1]}"
        return f"{file}#{self.member}" if self.member is not None else file


def _arrived(
    path: str | None,
    data: bytes | None,
    member: str | None,
    frame: tuple[int, int] | None,
    segment: Segment | None,
    known: tuple[Any, str | None, str | None],
) -> Image:
    image = Image(path, data, member, frame, segment)
    for name, value in zip(("_info", "_digest", "_node"), known, strict=True):
        object.__setattr__(image, name, value)
    return image


@cache
def this_node() -> str:
    """The name of this machine, for messages."""
    return platform.node() or "this machine"


@dataclass(frozen=True, slots=True)
class Video:
    """A video, as the frames shown to a model, in order."""

    frames: tuple[Image, ...]
    source: tuple[str, int, Segment | None] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    """(path, count, segment) of a video made by `sampled`."""

    @classmethod
    def sampled(cls, path: str, count: int, segment: Segment | None = None) -> Video:
        """`count` frames evenly spread over the video at the path, or over a part of it.

        Nothing is opened yet.
        """
        video = cls(tuple(Image(path, frame=(i, count), segment=segment) for i in range(count)))
        object.__setattr__(video, "source", (path, count, segment))
        return video


_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")

Part = str | Image | Video
"""What prompts are made of."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One item of a benchmark, used as a query or as a demonstration.

    id: from the data, unique within its split; never a row number.
    fields: named texts that templates use, such as `question`.
    images: in the order in which `{image}` places them.
    answer: shown as the reply if it is a demonstration.
    references: what a query's answer is compared with; alternatives: other sets of references, by name.
    choices: the closed set of answers, if there is one.
    cluster: the unit of clustered errors, usually the image.
    groups: labels of sub-scores, such as {"answer_type": "number"}; several of one kind as a tuple.
    numbers: the numbers by which marks in texts refer to the images, one each; empty = 1, 2, …
    unreadable: why it cannot be used. It is never shown, and as a query it is unscored and counted.
    """

    id: str
    fields: Mapping[str, str] = field(default_factory=dict)
    images: tuple[Image | Video, ...] = ()
    answer: str | Image | None = None
    references: tuple[str | Image, ...] = ()
    choices: tuple[str, ...] = ()
    cluster: str | None = None
    groups: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One demonstration: what is asked, and the reply, which can be an image."""

    ask: tuple[Part, ...]
    reply: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The canonical interleaved prompt; an adapter converts it to its model's format.

    turns: the demonstrations, farthest first; the last one is next to the query.
    lead: plain text between an ask and its reply; separator: between a reply and the next ask.
    Both matter only to models that read one plain sequence (`flat`); chat models have roles instead.
    opening: a text with which demonstrations and query begin, and then they are that one plain sequence for
    chat models too, a single message of the user (`conversation`); None = turns of two roles.
    """

    query: tuple[Part, ...]
    turns: tuple[Turn, ...] = ()
    system: str | None = None
    lead: str = " "
    separator: str = "\n"
    opening: str | None = None

    def parts(self) -> Iterator[Part]:
        """Every text, image and video in reading order, without lead and separators."""
        if self.system is not None:
            yield self.system
        if self.opening is not None:
            yield self.opening
        for turn in self.turns:
            yield from turn.ask
            yield from turn.reply
        yield from self.query

    def images(self) -> Iterator[Image]:
        """All images in reading order; a video contributes its frames."""
        for part in self.parts():
            if isinstance(part, Image):
                yield part
            elif isinstance(part, Video):
                yield from part.frames

    def flat(self) -> tuple[Part, ...]:
        """The prompt as one plain sequence with adjacent texts joined, for a base model to continue."""
        parts: list[Part] = [text for text in (self.system, self.opening) if text is not None]
        for turn in self.turns:
            parts += [*turn.ask, self.lead, *turn.reply, self.separator]
        parts += self.query
        joined: list[Part] = []
        for part in parts:
            if isinstance(part, str) and joined and isinstance(joined[-1], str):
                joined[-1] += part
            elif part != "":
                joined.append(part)
        return tuple(joined)

    def conversation(self) -> Prompt:
        """The prompt for a model with roles: its turns, or one message if it has an opening."""
        if self.opening is None:
            return self
        whole = replace(self, system=None).flat()
        return Prompt(whole, (), self.system, self.lead, self.separator)


class Mark(msgspec.Struct, frozen=True):
    """Something about how an answer was produced that a reader of the table should know.

    kind: one of `report.notes.SENTENCES`, or your own; value: distinguishes marks of the same kind.
    """

    kind: str
    value: str | int | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """Everything that a model returned for a request, or an error; the answer is then unscored.

    text: what is scored; raw: the original text, if it is longer (None = the same); thought: what the
    model wrote before its answer. log_probs: one per choice, in nats. images: in the order received.
    ended: why the answer ended, such as "stop" or "length". tokens_in, tokens_out: as the model counts.
    """

    text: str | None = None
    log_probs: tuple[float, ...] | None = None
    images: tuple[Image, ...] = ()
    error: str | None = None
    raw: str | None = None
    thought: str | None = None
    ended: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    marks: tuple[Mark, ...] = ()

    @property
    def image(self) -> Image | None:
        """The first image, if there is one."""
        return self.images[0] if self.images else None


IMPOSSIBLE = -1e30
"""Stands for a log-probability of minus infinity, which JSON cannot hold."""


@dataclass(frozen=True, slots=True)
class Output:
    """What is requested from a model. Subclass it for your own kind, such as an image with a box.

    kind: its name, as `Limits.outputs`, `Scorer.outputs` and task files have it.
    """

    kind: ClassVar[str]

    def kept(self, response: Response) -> Response:
        """The response as it is stored: trimmed to what was asked for, or with an error where it is
        something else. Only called for a response without an error; whatever else it holds is kept.
        """
        return response


@dataclass(frozen=True, slots=True)
class TextOutput(Output):
    """Requests free text. None = the model's own default.

    stop: the text is cut before the first of these strings; blank lines in front end nothing. `raw` then
    holds all of it.
    """

    kind: ClassVar[str] = "text"
    max_new_tokens: int = 10
    min_new_tokens: int = 0
    beams: int | None = None
    length_penalty: float | None = None
    stop: tuple[str, ...] = ()

    def kept(self, response: Response) -> Response:
        if not isinstance(response.text, str):
            return replace(response, text=None, error="the model returned no text")
        text = _BLANK_LINES.sub("", response.text)
        for stop in self.stop:
            text = text.partition(stop)[0]
        if text == response.text:
            return response
        whole = response.text if response.raw is None else response.raw
        return replace(response, text=text, raw=whole)


@dataclass(frozen=True, slots=True)
class ChoiceOutput(Output):
    """The log-likelihood of each choice as the reply is requested: a sum, or the mean over its tokens."""

    kind: ClassVar[str] = "choice"
    choices: tuple[str, ...]
    per_token: bool = False

    def kept(self, response: Response) -> Response:
        values = response.log_probs
        if values is None or len(values) != len(self.choices):
            return replace(
                response, error="the model did not return a log-probability for every choice"
            )
        if any(math.isnan(value) or value == math.inf for value in values):
            return replace(response, error="a log-probability is not a number", log_probs=None)
        return replace(response, log_probs=tuple(max(value, IMPOSSIBLE) for value in values))


@dataclass(frozen=True, slots=True)
class ImageOutput(Output):
    """Requests an image. Its noise depends only on the seed, not on the batch.

    width, height: pixels; steps: denoising steps; guidance: classifier-free guidance scale, 1 = none.
    """

    kind: ClassVar[str] = "image"
    seed: int = 0
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None

    def kept(self, response: Response) -> Response:
        return (
            response if response.images else replace(response, error="the model returned no image")
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A single request to a model. key: hex SHA-256 of prompt, output and the model's identity.

    The key serves for caching and resuming: equal keys have equal answers.
    """

    key: str
    prompt: Prompt
    output: Output


@dataclass(frozen=True, slots=True)
class Score:
    """What a scorer made of one response.

    value: on the scorer's own scale; None = unscored, which is counted and never treated as zero; `why`
    then gives the reason. prediction: the answer as it was compared, after clean-up. unjudged: why what
    a judge would add is missing, where the rest, which stands in the details, counts all the same.
    hidden: nothing is wrong with the response, but the sample has no references, as in a test split
    whose answers only a server knows.
    """

    value: float | None
    prediction: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    why: str | None = None
    unjudged: str | None = None
    hidden: bool = False

    @property
    def partial(self) -> bool:
        """It has no value for lack of a judge's word, but details that some numbers are made of."""
        return self.value is None and self.why is None and self.unjudged is not None


Tokens = Annotated[int, Meta(ge=0, le=10**18)]


class Used(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What requests to a server really took, as it counts. requests: how many; tokens_in, tokens_out: read
    and written. uncounted: requests of which it did not say.

    cached, of_images: of the tokens read; of_thought: of those written. money: at the prices of the model's
    settings, None = they name none.
    """

    requests: Tokens = 0
    uncounted: Tokens = 0
    tokens_in: Tokens = 0
    tokens_out: Tokens = 0
    cached: Tokens = 0
    of_images: Tokens = 0
    of_thought: Tokens = 0
    money: float | None = None

    def __add__(self, other: Used) -> Used:
        known = [each.money for each in (self, other) if each.money is not None]
        return self._each(other, lambda a, b: a + b, sum(known) if known else None)

    def since(self, before: Used) -> Used:
        """What was used beyond an earlier state of the same sum."""
        money = None if self.money is None else self.money - (before.money or 0.0)
        return self._each(before, lambda a, b: a - b, money)

    def _each(self, other: Used, made: Callable[[int, int], int], money: float | None) -> Used:
        names = (name for name in self.__struct_fields__ if name != "money")
        counts = {name: made(getattr(self, name), getattr(other, name)) for name in names}
        return Used(**counts, money=money)


class Shots(msgspec.Struct, frozen=True):
    """How many demonstrations. count: of them; text_only: without their images, the setting written 0*."""

    count: Annotated[int, Meta(ge=0, le=10**6)]
    text_only: bool = False

    def __str__(self) -> str:
        """As options and tables write it: `4`, or `0*`."""
        return "0*" if self.text_only else str(self.count)

    @property
    def rank(self) -> tuple[int, bool, int]:
        """For sorting: ascending, with 0* right after 0."""
        return (0 if self.text_only else self.count), self.text_only, self.count


class Published(msgspec.Struct, frozen=True):
    """A split whose size is not the published one. here, official: how many samples it has."""

    here: int
    official: int


def metric_label(metric: str, variant: str | None = None, judge: str | None = None) -> str:
    """A number's whole name.

    >>> metric_label("mm_vet", "own", "gpt-4"), metric_label("CIDEr")
    ('mm_vet/own by gpt-4', 'CIDEr')
    """
    name = metric if variant is None else f"{metric}/{variant}"
    return name if judge is None else f"{name} by {judge}"


def protocol_label(protocol: str, imported: str | None = None) -> str:
    """The protocol as tables show it. imported: who asked for answers that were given elsewhere.

    >>> protocol_label("plain"), protocol_label("plain", "lm-eval")
    ('plain', 'imported-lm-eval')
    """
    return protocol if imported is None else f"imported-{imported}"


class AnswerSource(msgspec.Struct, frozen=True):
    """Where answers that were given elsewhere come from. origin: in words. told: the user gave the number of
    shots; logged: what the log says of it."""

    origin: str
    told: bool = False
    logged: int | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a results table, with everything that a reader needs to judge it; notes are written
    later.

    run: the name of its folder. task, model: their names; shots, protocol, split, seed, trials, ablation:
    how it was asked; group: the label of a sub-score. metric, variant: what was measured, such as
    vqa_accuracy and official; higher_is_better: whether more is better;
    encoder: the identity of the encoder that it was measured with; judge: who judged.
    value, stderr: on the metric's scale (percent where it is a rate); None where nothing was scored.
    low, high: the ends of the 95 % interval. The error is clustered by image, and both hold what trials of
    demonstration draws add; spread: the standard deviation of the values of single trials.
    n: samples scored, over all trials; unscored: those whose request failed or could not be scored; hidden:
    those without references; server: whether an evaluation server knows them (`emu2eval submit`).
    covered, queries: how many queries were asked about, and how many the split has.
    shortened: prompts that hold fewer demonstrations than asked for, so that they fit.
    missing: queries that were left out, as the user asked, since an image or a video of theirs has no file;
    missing_examples: the same of the demonstrations that could have been drawn.
    marks: what answers were marked with, and how many; changes: what was set against the task's and the
    model's files; sources: of splits that do not come from the official files; size: where the split has not
    the published one. imported: who asked, where answers were given elsewhere, and
    source: what they come from.
    set_scaled: the metric's scale depends on the set, so numbers of different sets cannot be compared.
    digits: how many to show behind the point. notes: what the scorer says of its number.
    chance, ceiling: what guessing and what perfect use of the demonstrations give, where the task says.
    seconds: time spent in the model, added up over every start of the run.
    """

    run: str
    task: str
    model: str
    shots: Shots
    protocol: str
    split: str
    metric: str
    value: float | None
    stderr: float | None
    n: Count
    unscored: Count
    hidden: Count = 0
    server: bool = False
    covered: Count
    queries: Count
    seconds: float = 0.0
    version: int = 1
    seed: int = 0
    trials: Count = 1
    ablation: str = "none"
    group: str | None = None
    variant: str | None = None
    judge: str | None = None
    encoder: str | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    higher_is_better: bool = True
    set_scaled: bool = False
    digits: Annotated[int, Meta(ge=0, le=12)] = 2
    chance: float | None = None
    ceiling: float | None = None
    shortened: Count = 0
    missing: Count = 0
    missing_examples: Count = 0
    marks: tuple[tuple[Mark, int], ...] = ()
    changes: tuple[str, ...] = ()
    sources: Mapping[str, str] = {}
    size: Published | None = None
    imported: str | None = None
    source: AnswerSource | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval needs both ends")

    @property
    def label(self) -> str:
        """The number's whole name: `vqa_accuracy/official`, `mm_vet/own by gpt-4`."""
        return metric_label(self.metric, self.variant, self.judge)

    @property
    def protocol_label(self) -> str:
        """The protocol as tables show it; `imported-LABEL` where nobody knows the prompts."""
        return protocol_label(self.protocol, self.imported)

    @property
    def setting(self) -> str:
        """Shots as people read them, with what was taken away: `4`, `0*`, `4 (labels)`."""
        return str(self.shots) if self.ablation == "none" else f"{self.shots} ({self.ablation})"

    @property
    def complete(self) -> bool:
        """Every query of the split was asked about."""
        return self.covered == self.queries
