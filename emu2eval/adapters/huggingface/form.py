"""A Prompt as a model of transformers reads it: turns of its chat template, or one plain sequence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from emu2eval.adapters.huggingface.expansion import ALONE, PROCESSOR, Expansion
from emu2eval.adapters.huggingface.grid import Tiles, gather
from emu2eval.adapters.huggingface.segments import Segments
from emu2eval.adapters.huggingface.settings import Layout
from emu2eval.adapters.huggingface.template import ChatTemplate, Message, message
from emu2eval.adapters.local.bounded import Bounded
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.pieces import Pieces, Stretch
from emu2eval.errors import ModelError, PlanError
from emu2eval.media import images
from emu2eval.media.refusals import taking
from emu2eval.types import Image, Part, Prompt, Video

_OPEN, _CLOSE = "\ue000", "\ue001"
"""Around the number of a control token that stands in a text as mere characters."""
_PLACES = "\ue005"
"""Between an image's first place and its last, where all the others are."""
_FEW = 8
"""Places of an image that are written out."""
_FRAMES = 64 << 20
"""Bytes of what stands for images of each size, and of what fills each."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands for an image. text: with `_PLACES` for what `places` holds; tokens: its places in all."""

    text: str
    tokens: int
    places: Stretch | None = None

    @property
    def nbytes(self) -> int:
        return 200 + len(self.text) + (0 if self.places is None else self.places.nbytes)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A prompt to which a reply may be added. places: what stands at each `_PLACES` of the text."""

    text: str
    places: tuple[Stretch, ...]
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class TransformersForm:
    """slot: the id that an image's embedding replaces. system: instead of a prompt's own system text.

    mark: what stands for an image in the plain layout; None = the processor's placeholder.
    grid: "demonstrations" or "everything" puts their images into one. options: for the chat template.
    """

    processor: Any
    expansion: Expansion
    layout: Layout
    slot: int
    system: str | None = None
    mark: str | None = None
    grid: Literal["demonstrations", "everything"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    _frames: Bounded[_Frame] = field(default_factory=lambda: Bounded(_FRAMES))
    _framed: Bounded[_Frame] = field(default_factory=lambda: Bounded(_FRAMES))

    def encode(self, prompt: Prompt) -> Encoded:
        """Ids of the prompt. Raises as `lay_out`."""
        return self.lay_out(prompt).encoded

    def lay_out(self, prompt: Prompt) -> Pieces:
        """Ids of the prompt, in pieces.

        Raises PlanError where the model's template loses a part of it, ImageError for one that its image
        processor does not take.
        """
        return self._finished(self._begun(prompt))

    def with_replies(self, prompt: Prompt, replies: Sequence[str]) -> list[Pieces]:
        """Ids of the prompt and each reply as one text, as it stands in running text. Raises as `lay_out`."""
        begun = self._begun(prompt, spelled=any(_PLACES in reply for reply in replies))
        # What closes a prompt stands in place of the white space before a reply.
        plain = prompt.lead if self.layout == "plain" else self._template.lead
        lead = "" if self.expansion.closing else plain
        return [self._finished(begun, lead + self._literal(reply)) for reply in replies]

    def text(self, prompt: Prompt, tiles: Tiles | None = None) -> str:
        """What a processor is given of a prompt: a placeholder stands for each image. Raises PlanError."""
        if self.layout == "plain":
            return self._plain(prompt, tiles)
        return self._template.shown(self._messages(prompt, tiles))

    def _begun(self, prompt: Prompt, spelled: bool = False) -> _Begun:
        """spelled: all that stands for an image is written out."""
        prompt, tiles = self._gathered(prompt)
        shown: list[Image | Tiles] = [] if tiles is None else [tiles]
        shown += prompt.images()
        if self.layout == "plain":
            text = self._plain(prompt, tiles)
        else:
            text = self._template.filled(self._messages(prompt, tiles))
        expansion = self.expansion
        pieces = (text + expansion.closing).split(expansion.placeholder)
        if len(pieces) - 1 != len(shown):
            raise PlanError(
                f"the model's chat template shows {len(pieces) - 1} of the prompt's {len(shown)} "
                "images",
                hint="use another protocol, or `layout: plain` in the model file",
            )
        spelled = spelled or _PLACES in text
        alone = ALONE if len(shown) == 1 and expansion.minds_company else ""
        written, places, found = [pieces[0]], list[Stretch](), list[Shown]()
        for number, (image, piece) in enumerate(zip(shown, pieces[1:], strict=True)):
            frame, one = self._placed(image, alone, spelled)
            written += (expansion.numbered(frame.text, number), piece)
            found.append(one)
            if frame.places is not None:
                places.append(frame.places)
        return _Begun("".join(written), tuple(places), tuple(found))

    def _finished(self, begun: _Begun, reply: str = "") -> Pieces:
        text = self.expansion.finish(begun.text + reply)
        bos = self.processor.tokenizer.bos_token
        # As the processor's own apply_chat_template does it: never a second <bos>.
        special = bos is None or not text.startswith(bos)
        places, parts = iter(begun.places), list[Stretch]()
        runs = re.split(f"{_OPEN}([0-9]+){_CLOSE}", text) if _OPEN in text else [text]
        for number, run in enumerate(runs):
            if number % 2:
                parts.append(Stretch.of(self._characters(self._controls[int(run)]), self.slot))
                continue
            for place, stretch in enumerate(run.split(_PLACES) if begun.places else [run]):
                if place:
                    parts.append(next(places))
                parts.append(
                    self._segments.piece(stretch, None if place else special and not number)
                )
        laid = Pieces(tuple(parts), begun.shown)
        filled = sum(one.tokens for one in begun.shown)
        if laid.places != filled:
            raise ModelError(
                f"the tokenizer produces {laid.places} image placeholders, but the images need {filled}",
                hint="the processor's files do not match this model",
            )
        return laid

    def _placed(
        self, shown: Image | Tiles, variety: str, spelled: bool = False
    ) -> tuple[_Frame, Shown]:
        if isinstance(shown, Tiles):
            size, first, tiles = shown.size, shown.images[0], shown.images
        else:
            size, first, tiles = images.info(shown).upright, shown, ()
        key = (*size, variety)
        frame = self._frames.get(key)
        if frame is None:
            with taking(first, PROCESSOR):
                text = self.expansion.text(*key)
            frame = self._framed.get(text)
            if frame is None:
                frame = self._frame(text)
                self._framed.put(text, frame)
            self._frames.put(key, frame)
        if spelled:
            frame = _Frame(self.expansion.text(*key), frame.tokens)
        return frame, Shown(first, frame.tokens, variety, tiles)

    def _frame(self, text: str) -> _Frame:
        """What stands for an image, without what fills it from its second place to the last but one."""
        slot = self._slot_text
        tokens = text.count(slot)
        if tokens < _FEW or not self._segments.apart:
            return _Frame(text, tokens)
        first, last = text.index(slot) + len(slot), text.rindex(slot)
        short = f"{text[:first]}{_PLACES}{text[last:]}"
        return _Frame(short, tokens, self._segments.places(text[first:last]))

    @cached_property
    def _segments(self) -> Segments:
        template = str(getattr(self.processor, "chat_template", None) or "")
        return Segments(self.processor.tokenizer, self.slot, template)

    def _characters(self, mark: str) -> list[int]:
        """Ids of a control token as a text."""
        words = self.processor.tokenizer
        ids: list[int] = words.encode(mark, add_special_tokens=False, split_special_tokens=True)
        if len(mark) > 1 and words.convert_tokens_to_ids(mark) in ids:
            # Added, but not as a special token: the tokenizer splits no such.
            return self._characters(mark[:1]) + self._characters(mark[1:])
        return ids

    def _plain(self, prompt: Prompt, tiles: Tiles | None) -> str:
        system = self.system if prompt.system is None else prompt.system
        if system is not None and prompt.system is None:
            prompt = _with_system(prompt, system)
        mark = self.mark or self.expansion.placeholder
        text = mark if tiles is not None else ""
        for part in prompt.flat():
            text += self._literal(part) if isinstance(part, str) else mark * _count(part)
        return text

    def moves_images(self, prompt: Prompt) -> bool:
        """Whether the chat template shows images elsewhere among the texts than the prompt does."""
        if self.layout != "chat":
            return False
        prompt, tiles = self._gathered(prompt)
        return self._template.moves_images(self._messages(prompt, tiles))

    def _gathered(self, prompt: Prompt) -> tuple[Prompt, Tiles | None]:
        return (prompt, None) if self.grid is None else gather(prompt, self.grid == "everything")

    def _messages(self, prompt: Prompt, tiles: Tiles | None) -> list[Message]:
        messages = []
        prompt = prompt.conversation()
        system = self.system if prompt.system is None else prompt.system
        if system is not None:
            messages.append(message("system", [self._content(system)]))
        for turn in prompt.turns:
            messages.append(message("user", self._contents(turn.ask)))
            messages.append(message("assistant", self._contents(turn.reply)))
        messages.append(message("user", self._contents(prompt.query)))
        if tiles is not None:
            first = next(each for each in messages if each["role"] == "user")
            first["content"].insert(0, {"type": "image"})
        return messages

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self.processor, self.expansion.placeholder, self.options)

    def _contents(self, parts: Iterable[Part]) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        for part in parts:
            if isinstance(part, str):
                found.append(self._content(part))
            else:
                found += [{"type": "image"}] * _count(part)
        return found

    def _content(self, text: str) -> dict[str, str]:
        return {"type": "text", "text": self._literal(text)}

    def _literal(self, text: str) -> str:
        """The text with its control tokens marked: data can neither open a slot nor end a turn."""
        return self._control.sub(lambda match: f"{_OPEN}{self._numbers[match[0]]}{_CLOSE}", text)

    @cached_property
    def _controls(self) -> list[str]:
        added = self.processor.tokenizer.added_tokens_decoder.values()
        named = {str(token) for token in added if not str(token).isspace()}
        return [*sorted(named | {self.expansion.placeholder}, key=len, reverse=True), _OPEN]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self._controls)}

    @cached_property
    def _control(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._controls)))

    @cached_property
    def _slot_text(self) -> str:
        return str(self.processor.tokenizer.convert_ids_to_tokens(self.slot))


def _count(part: Image | Video) -> int:
    return len(part.frames) if isinstance(part, Video) else 1


def _with_system(prompt: Prompt, system: str) -> Prompt:
    return replace(prompt, system=system)
