"""A model's chat template, held to what it was given: every part of a prompt is shown, in its order.

Templates are code of the models' authors. Some put the images of a message before its text, leave out the
system text, or show the first text of a message only, and say nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from emu2eval.adapters.huggingface.settings import Layout
from emu2eval.errors import ConfigError, PlanError

Message = dict[str, Any]
"""role, and content: a list of {"type": "image"} and {"type": "text", "text": …}."""

Roles = tuple[str, ...]
_ALL: Roles = ("system", "assistant", "user")
_STRINGS = tuple(_ALL[:count] for count in range(len(_ALL) + 1))
"""What is tried in turn: some templates want a system text, or a reply, as if messages had no parts."""
_OPEN, _CLOSE = "\ue003", "\ue004"
"""Around the number of a text that stands in for the prompt's own when a template is tried."""
_OTHERWISE = (
    "another protocol, `layout: plain` for a base model, or a chat_template in the model's folder that "
    "shows all parts in order"
)


@dataclass(frozen=True, slots=True)
class Tried:
    """moves: images stand elsewhere among the texts. strings: roles whose texts are given as one string."""

    moves: bool
    strings: Roles


@dataclass(frozen=True)
class ChatTemplate:
    """placeholder: what stands for an image in the rendered text. options: of the template's own."""

    processor: Any
    placeholder: str
    options: Mapping[str, Any] = field(default_factory=dict)
    _tried: dict[tuple[Any, ...], Tried] = field(default_factory=dict)

    def shown(self, messages: Sequence[Message]) -> str:
        """The rendered text, up to where the reply begins.

        Raises PlanError where the template does not take the messages, or loses, repeats or reorders texts.
        """
        text = self._rendered(messages, self._try(messages).strings)
        seen, at = _squeezed(text), 0
        for part in _texts(messages):
            wanted = _squeezed(part)
            found = seen.find(wanted, at)
            if found < 0:
                raise _refused(f"changes or drops a text of the prompt, {_begun(wanted)}")
            at = found + len(wanted)
        return text

    def moves_images(self, messages: Sequence[Message]) -> bool:
        """Whether images stand elsewhere among the texts than in the messages. Raises PlanError."""
        return self._try(messages).moves

    def _rendered(self, messages: Sequence[Message], strings: Roles, asks: bool = True) -> str:
        """What the template writes. strings: roles whose texts are given as one string; asks: up to where a
        reply begins. Raises PlanError."""
        given = [_joined(each) if each["role"] in strings else each for each in messages]
        try:
            render = self.processor.apply_chat_template
            return str(render(given, add_generation_prompt=asks, **self.options))
        except Exception as error:
            # A template may refuse whatever it does not expect.
            raise PlanError(
                f"the model's chat template does not take this prompt ({error})",
                hint="`layout: plain` for a base model without a template",
            ) from None

    def _try(self, messages: Sequence[Message]) -> Tried:
        """What was found out with messages of this make; once for each.

        Raises PlanError for a template that loses, repeats or reorders texts.
        """
        make = tuple((each["role"], *map(_kind, each["content"])) for each in messages)
        if make not in self._tried:
            errors = []
            for strings in _STRINGS:
                try:
                    self._tried[make] = Tried(self._moves(messages, strings), strings)
                    break
                except PlanError as error:
                    errors.append(error)
            else:
                raise errors[0]
        return self._tried[make]

    @cached_property
    def lead(self) -> str:
        """The white space that the template puts before a reply."""
        ask = [message("user", [{"type": "text", "text": "a"}])]
        reply = message("assistant", [{"type": "text", "text": "\ue002"}])
        strings = self._try([*ask, reply]).strings
        asked = self._rendered(ask, strings)
        told = self._rendered([*ask, reply], strings, asks=False)
        lead = told[len(asked) :].partition("\ue002")[0] if told.startswith(asked) else ""
        return lead if lead.isspace() else ""

    def _moves(self, messages: Sequence[Message], strings: Roles) -> bool:
        """With numbers for texts, so that no text is taken for another."""
        numbered, expected, texts = [], list[str](), list[tuple[str, str]]()
        for given in messages:
            content = []
            for part in given["content"]:
                if _kind(part) == "text":
                    mark = f"{_OPEN}{len(texts)}{_CLOSE}"
                    expected.append(str(len(texts)))
                    texts.append((given["role"], part["text"]))
                    content.append({"type": "text", "text": mark})
                else:
                    content.append(part)
                    expected += [self.placeholder] if part["type"] == "image" else []
            numbered.append(message(given["role"], content))
        text = self._rendered(numbered, strings)
        if "'type': 'text'" in text:
            raise _refused("takes a message as one string, and writes the list of its parts out")
        split = re.split(f"{_OPEN}([0-9]+){_CLOSE}|({re.escape(self.placeholder)})", text)
        found = [piece for place, piece in enumerate(split) if place % 3 and piece]
        wanted = [each for each in expected if each != self.placeholder]
        seen = [each for each in found if each != self.placeholder]
        if wanted != seen:
            raise _refused(_what(texts, seen))
        return found != expected


def check_options(processor: Any, options: Mapping[str, Any], layout: Layout) -> None:
    """Raises ConfigError for options of which the template knows nothing."""
    if layout != "chat":
        raise ConfigError("template_options are for `layout: chat`")
    template = str(getattr(processor, "chat_template", ""))
    for name in options:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise ConfigError(
                f"the model's chat template has no option {name!r}",
                where="model.settings.template_options",
                hint="its chat_template names what it takes",
            )


def message(role: str, content: list[dict[str, str]]) -> Message:
    """A turn of a conversation."""
    return {"role": role, "content": content}


def _what(texts: Sequence[tuple[str, str]], seen: Sequence[str]) -> str:
    """What a template does with texts, each given with its role, of which it shows those numbers."""
    lost = [number for number in range(len(texts)) if str(number) not in seen]
    if lost:
        role, text = texts[lost[0]]
        if role == "system":
            return f"drops the system text, {_begun(text)}"
        return f"shows {len(texts) - len(lost)} of the prompt's {len(texts)} texts, and drops {_begun(text)}"
    if len(set(seen)) < len(seen):
        return "shows a text of the prompt more than once"
    place = next(place for place, number in enumerate(seen) if number != str(place))
    name = "the system text" if texts[place][0] == "system" else _begun(texts[place][1])
    return f"puts {name} behind a text that comes after it"


def _refused(does: str) -> PlanError:
    return PlanError(f"the model's chat template {does}", hint=_OTHERWISE)


def _kind(part: dict[str, str]) -> str:
    """image, text, or blank: white space is the template's own."""
    return "blank" if part["type"] == "text" and not part["text"].strip() else part["type"]


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for given in messages:
        for part in given["content"]:
            if _kind(part) == "text":
                yield part["text"]


def _joined(given: Message) -> Message:
    """The message with one string as its content, where it holds texts alone."""
    if any(part["type"] != "text" for part in given["content"]):
        return given
    return {**given, "content": "".join(part["text"] for part in given["content"])}


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _begun(text: str) -> str:
    short = _squeezed(text)
    return repr(short if len(short) <= 40 else f"{short[:39]}…")
