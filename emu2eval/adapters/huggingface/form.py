"""A Prompt as a model of transformers reads it: turns of its chat template, or one plain sequence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from emu2eval.adapters.huggingface.expansion import ALONE, PROCESSOR, Expansion
from emu2eval.adapters.huggingface.grid import Tiles, gather
from emu2eval.adapters.huggingface.settings import Layout
from emu2eval.adapters.huggingface.template import ChatTemplate, Message, message
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.errors import ModelError, PlanError
from emu2eval.media import images
from emu2eval.media.refusals import taking
from emu2eval.types import Image, Part, Prompt, Video

_OPEN, _CLOSE = "\ue000", "\ue001"
"""Around the number of a control token that stands in a text as mere characters."""


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
    _tokens: dict[tuple[int, int, str], int] = field(default_factory=dict)

    def encode(self, prompt: Prompt, reply: str | None = None) -> Encoded:
        """Ids of the prompt, or of the prompt and a reply as one text, as it stands in running text.

        Raises PlanError where the model's template loses a part of it, ImageError for one that its image
        processor does not take.
        """
        prompt, tiles = self._gathered(prompt)
        shown = ([tiles] if tiles is not None else []) + list(prompt.images())
        closing = self.expansion.closing
        text = self.text(prompt, tiles) + closing
        if reply is not None:
            # What closes a prompt stands in place of the white space before a reply.
            plain = prompt.lead if self.layout == "plain" else self._template.lead
            lead = "" if closing else plain
            text += lead + self._literal(reply)
        return self._encode(text, shown)

    def text(self, prompt: Prompt, tiles: Tiles | None = None) -> str:
        """What a processor is given of a prompt: a placeholder stands for each image. Raises PlanError."""
        chat = self.layout == "chat"
        return self._chat(prompt, tiles) if chat else self._plain(prompt, tiles)

    def _encode(self, text: str, shown: Sequence[Image | Tiles]) -> Encoded:
        pieces = text.split(self.expansion.placeholder)
        if len(pieces) - 1 != len(shown):
            raise PlanError(
                f"the model's chat template shows {len(pieces) - 1} of the prompt's {len(shown)} "
                "images",
                hint="another protocol, or `layout: plain` in the model's file",
            )
        alone = ALONE if len(shown) == 1 and self.expansion.minds_company else ""
        placed = [self._placed(image, alone) for image in shown]
        whole = pieces[0]
        for number, ((expanded, _), piece) in enumerate(zip(placed, pieces[1:], strict=True)):
            whole += self.expansion.numbered(expanded, number) + piece
        ids = self._ids(self.expansion.finish(whole))
        slots = tuple(i == self.slot for i in ids)
        found = tuple(one for _, one in placed)
        if sum(slots) != sum(one.tokens for one in found):
            raise ModelError(
                f"the tokenizer gives {sum(slots)} places for images that fill "
                f"{sum(one.tokens for one in found)}",
                hint="the processor's files do not belong to this model",
            )
        return Encoded(ids, slots, found)

    def _placed(self, shown: Image | Tiles, variety: str) -> tuple[str, Shown]:
        if isinstance(shown, Tiles):
            size, first, tiles = shown.size, shown.images[0], shown.images
        else:
            size, first, tiles = images.info(shown).upright, shown, ()
        with taking(first, PROCESSOR):
            text = self.expansion.text(*size, variety)
        key = (*size, variety)
        if key not in self._tokens:
            self._tokens[key] = text.count(self._slot_text)
        return text, Shown(first, self._tokens[key], variety, tiles)

    def _ids(self, text: str) -> tuple[int, ...]:
        tokenizer = self.processor.tokenizer
        bos = tokenizer.bos_token
        # As the processor's own apply_chat_template does it: never a second <bos>.
        special = bos is None or not text.startswith(bos)
        if _OPEN not in text:
            return tuple(tokenizer(text, add_special_tokens=special)["input_ids"])
        found: list[int] = []
        for place, piece in enumerate(re.split(f"{_OPEN}([0-9]+){_CLOSE}", text)):
            if place % 2:
                found += self._characters(self._controls[int(piece)])
            else:
                found += tokenizer(piece, add_special_tokens=special and not place)["input_ids"]
        return tuple(found)

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

    def _chat(self, prompt: Prompt, tiles: Tiles | None) -> str:
        return self._template.shown(self._messages(prompt, tiles))

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
