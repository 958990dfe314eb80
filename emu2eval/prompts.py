"""Template + demonstrations + query -> Prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from string import Formatter

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec.task import FirstSpec, ProtocolSpec
from emu2eval.types import Image, Part, Prompt, Sample, Turn, Video


@dataclass(frozen=True, slots=True)
class _Field:
    name: str


_Piece = str | _Field


@dataclass(frozen=True)
class Template:
    """A compiled text with {fields}. {image} gives a sample's images one after the other,
    {images} all that are left, {answer} the answer (a text or an image).

    marks: a pattern whose group is the number (`Sample.numbers`) of the image that stands there in the
    text of a field; {image} and {images} pass over the images that have a place so.
    """

    pieces: tuple[_Piece, ...]
    where: str
    marks: re.Pattern[str] | None = None

    @classmethod
    def compile(cls, text: str, where: str, marks: str | None = None) -> Template:
        """Raises ConfigError for anything but plain {name}: no attributes, indices or formats."""
        pieces: list[_Piece] = []
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            hint = "write {{ and }} for literal braces"
            raise ConfigError(f"the template {text!r}: {error}", where=where, hint=hint) from None
        for literal, name, form, conversion in parsed:
            if literal:
                pieces.append(literal)
            if name is None:
                continue
            if not name.isidentifier() or form or conversion:
                raise ConfigError(
                    f"the template {text!r} contains {{{name}}}; only plain field names are allowed in "
                    "braces",
                    where=where,
                    hint="write {{ and }} for literal braces",
                )
            pieces.append(_Field(name))
        return cls(tuple(pieces), where, _marks(marks, where))

    def fill(self, sample: Sample, *, with_images: bool = True) -> tuple[Part, ...]:
        """The parts for a sample, neighbouring texts joined.

        Raises UnknownName for a field that the sample lacks, ConfigError where the template leaves
        out images of the sample: an image is never dropped in silence.
        """
        filled = self.plainly(sample, sample.images, with_images=with_images)
        return self._carefully(sample, with_images) if filled is None else filled

    def plainly(
        self, sample: Sample, images: Sequence[Image | Video], *, with_images: bool = True
    ) -> tuple[Part, ...] | None:
        """`fill` with these images where nothing is odd, in a third of its time; else None."""
        if self.marks is not None:
            return None
        parts: list[Part] = []
        text, left, fields = "", 0, sample.fields
        for piece in self.pieces:
            if isinstance(piece, str):
                text += piece
                continue
            name = piece.name
            if name == "image" or name == "images":
                stop = left + 1 if name == "image" else len(images)
                if stop > len(images):
                    return None
                if with_images and left < stop:
                    parts += (text, *images[left:stop]) if text else images[left:stop]
                    text = ""
                left = stop
                continue
            value = sample.answer if name == "answer" else fields.get(name)
            if type(value) is not str:
                return None
            text += value
        if left < len(images):
            return None
        return (*parts, text) if text else tuple(parts)

    def _carefully(self, sample: Sample, with_images: bool) -> tuple[Part, ...]:
        parts: list[Part] = []
        texts = {
            piece.name: list(self._split(sample.fields[piece.name]))
            for piece in self.pieces
            if isinstance(piece, _Field) and piece.name in sample.fields
        }
        placed = {n for text in texts.values() for n in text if isinstance(n, int)}
        left = [p for number, p in _numbered(sample).items() if number not in placed]
        for piece in self.pieces:
            if isinstance(piece, str):
                _add(parts, piece)
            elif piece.name == "image":
                if not left:
                    raise ConfigError(
                        f"the template places more images than sample {sample.id!r} has "
                        f"({len(sample.images) - len(placed)})",
                        where=self.where,
                    )
                image = left.pop(0)
                if with_images:
                    parts.append(image)
            elif piece.name == "images":
                if with_images:
                    parts.extend(left)
                left = []
            elif piece.name == "answer":
                if sample.answer is None:
                    raise ConfigError(
                        f"sample {sample.id!r} has no answer to show", where=self.where
                    )
                _add(parts, sample.answer)
            elif piece.name in texts:
                for item in texts[piece.name]:
                    if isinstance(item, str):
                        _add(parts, item)
                    elif with_images:
                        parts.append(self._marked(sample, item))
            else:
                known = [*sample.fields, "image", "images", "answer"]
                raise UnknownName("template field", piece.name, known, where=self.where)
        if left:
            raise ConfigError(
                f"the template places {len(sample.images) - len(left)} of the "
                f"{len(sample.images)} images of sample {sample.id!r}",
                where=self.where,
                hint="add {image} for each image, or {images} for all",
            )
        return tuple(parts)

    def _split(self, text: str) -> Iterator[str | int]:
        """The text, with a number in place of each mark."""
        if self.marks is None:
            yield text
            return
        for number, part in enumerate(self.marks.split(text)):
            yield int(part) if number % 2 else part

    def _marked(self, sample: Sample, number: int) -> Image | Video:
        numbered = _numbered(sample)
        if number not in numbered:
            raise ConfigError(
                f"sample {sample.id!r} refers to image {number}, but has {len(sample.images)}",
                where=self.where,
            )
        return numbered[number]


def _numbered(sample: Sample) -> dict[int, Image | Video]:
    """The images by the numbers that marks in texts name them by."""
    numbers = sample.numbers or range(1, len(sample.images) + 1)
    return dict(zip(numbers, sample.images, strict=True))


def _system(template: Template | None, query: Sample) -> str | None:
    """The system text, its {fields} those of the query; images belong to the ask."""
    if template is None:
        return None
    bare = Sample(query.id, query.fields)
    return "".join(part for part in template.fill(bare) if isinstance(part, str))


def _marks(text: str | None, where: str) -> re.Pattern[str] | None:
    if text is None:
        return None
    before, found, after = text.partition("{number}")
    if not found:
        raise ConfigError(
            f"the marks {text!r} contain no {{number}}",
            where=where,
            hint='such as "<image {number}>"',
        )
    return re.compile(re.escape(before) + r"(\d+)" + re.escape(after))


def _add(parts: list[Part], value: str | Image | Video) -> None:
    if isinstance(value, str) and parts and isinstance(parts[-1], str):
        parts[-1] += value
    elif value != "":
        parts.append(value)


def check_first(first: FirstSpec, where: str) -> None:
    """Raises ConfigError where no choice lets the query be asked, or an answer stands for no choice."""
    if strange := [each for each in first.answers if each not in first.choices]:
        raise UnknownName("choice", strange[0], first.choices, where=where, of="the first question")
    if len(set(first.choices)) < 2 or set(first.answers) == set(first.choices):
        raise ConfigError(
            "a first question needs several choices, one of them without an answer (it leads to the query)",
            where=where,
        )


class PromptBuilder:
    """Prompts of one protocol. where: the YAML place that errors point at."""

    def __init__(self, protocol: ProtocolSpec, where: str):
        self.protocol = protocol
        self.ask = Template.compile(protocol.ask, where, protocol.marks)
        self.cases = {
            value: Template.compile(text, where, protocol.marks)
            for value, text in (protocol.cases.ask.items() if protocol.cases else ())
        }
        self.reply = Template.compile(protocol.reply, where)
        for piece in self.reply.pieces:
            if isinstance(piece, _Field) and piece.name in ("image", "images"):
                raise ConfigError("a reply template uses {answer}, not {image}", where=where)
        self.first = None
        if protocol.first is not None:
            self.first = Template.compile(protocol.first.ask, where, protocol.marks)
            check_first(protocol.first, where)
        zero = protocol.zero_shot
        self.zero_ask = None
        if zero.ask is not None:
            self.zero_ask = Template.compile(zero.ask, where, protocol.marks)
        zero_system = zero.system if zero.system is not None else protocol.system
        self.system, self.zero_system = (
            Template.compile(text, where) if text is not None else None
            for text in (protocol.system, zero_system)
        )

    def before(self, prompt: Prompt, query: Sample) -> Prompt | None:
        """The prompt with the protocol's first question in the query's place, where it has one."""
        return replace(prompt, query=self.first.fill(query)) if self.first is not None else None

    def build(
        self, query: Sample, demonstrations: Sequence[Sample], *, text_only: bool = False
    ) -> Prompt:
        """Demonstrations in the order given (farthest first), then the query.

        text_only: their images are left out, as Flamingo's 0* does; the query keeps its own.
        """
        if not demonstrations:
            return Prompt(
                query=(self.zero_ask or self._ask(query)).fill(query),
                system=_system(self.zero_system, query),
                lead=self.protocol.lead,
                separator=self.protocol.separator,
                opening=self.protocol.opening,
            )
        turns = tuple(
            Turn(self._ask(d).fill(d, with_images=not text_only), self._reply(d))
            for d in demonstrations
        )
        return Prompt(
            query=self._ask(query).fill(query),
            turns=turns,
            system=_system(self.system, query),
            lead=self.protocol.lead,
            separator=self.protocol.separator,
            opening=self.protocol.opening,
        )

    def _ask(self, sample: Sample) -> Template:
        """The wording for this sample. Raises UnknownName where it lacks the field that decides."""
        cases = self.protocol.cases
        if cases is None:
            return self.ask
        if cases.field not in sample.fields:
            raise UnknownName("template field", cases.field, sample.fields, where=self.ask.where)
        return self.cases.get(sample.fields[cases.field], self.ask)

    def _reply(self, demonstration: Sample) -> tuple[Part, ...]:
        # The reply is a text of its own: images of the sample belong to the ask.
        filled = self.reply.plainly(demonstration, ())
        if filled is not None:
            return filled
        bare = Sample(demonstration.id, demonstration.fields, answer=demonstration.answer)
        return self.reply.fill(bare)
