"""A model's chat template, held to what it was given: every part of a prompt is shown, in its order.

Templates are code of the models' authors. Some put the images of a message before its text, leave out the
system text, or show the first text of a message only, and say nothing of it.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from emu2eval.adapters.huggingface.settings import Layout
from emu2eval.adapters.huggingface.skeleton import CLOSE, OPEN, Skeleton, mark, skeleton
from emu2eval.errors import ConfigError, PlanError

Message = dict[str, Any]
"""role, and content: a list of {"type": "image"} and {"type": "text", "text": …}."""

Roles = tuple[str, ...]
_ALL: Roles = ("system", "assistant", "user")
_STRINGS = tuple(_ALL[:count] for count in range(len(_ALL) + 1))
"""What is tried in turn: some templates want a system text, or a reply, as if messages had no parts."""
_MAKES = 4096
"""Makes of conversations about which is remembered what was found out."""
_UNSEEN, _ONCE = "unseen", "seen once"
_OTHERWISE = (
    "use another protocol, `layout: plain` for a base model, or a chat_template in the model's folder "
    "that shows all parts in order"
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
    _skeletons: dict[tuple[Any, ...], Skeleton | str | None] = field(default_factory=dict)

    def filled(self, messages: Sequence[Message]) -> str:
        """What `shown` gives. Where the template writes texts without looking at them, it is rendered for the
        first two conversations of a make alone."""
        make = tuple((each["role"], *map(_kept, each["content"])) for each in messages)
        known = self._skeletons.get(make, _UNSEEN)
        if isinstance(known, Skeleton):
            return known.filled([*_texts(messages)])
        text = self.shown(messages)
        if known is _UNSEEN:
            if len(self._skeletons) >= _MAKES:
                self._skeletons.clear()
            self._skeletons[make] = _ONCE
        elif known is _ONCE:
            # Where every prompt has a make of its own, none is worth more than a rendering.
            found = self._skeleton(messages)
            holds = found is not None and found.filled([*_texts(messages)]) == text
            self._skeletons[make] = found if holds else None
        return text

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
                raise _refused(f"changes or drops a text in the prompt, {_begun(wanted)}")
            at = found + len(wanted)
        return text

    def moves_images(self, messages: Sequence[Message]) -> bool:
        """Whether images stand elsewhere among the texts than in the messages. Raises PlanError."""
        return self._try(messages).moves

    def _skeleton(self, messages: Sequence[Message]) -> Skeleton | None:
        strings = self._try(messages).strings

        def given(text_of: Callable[[int], str]) -> list[Message]:
            return _as_given(_numbered(messages, text_of), strings)

        def rendered(messages: Sequence[Message]) -> str:
            return self._rendered(messages, ())

        count = sum(1 for _ in _texts(messages))
        return skeleton(self.processor, self.options, given, rendered, count)

    def _rendered(self, messages: Sequence[Message], strings: Roles, asks: bool = True) -> str:
        """What the template writes. strings: roles whose texts are given as one string; asks: up to where a
        reply begins. Raises PlanError."""
        try:
            render = self.processor.apply_chat_template
            given = _as_given(messages, strings)
            return str(render(given, add_generation_prompt=asks, **self.options))
        except Exception as error:
            # A template may refuse whatever it does not expect.
            raise PlanError(
                f"the model's chat template rejects this prompt ({error})",
                hint="for a base model without a template, use `layout: plain`",
            ) from None

    def _try(self, messages: Sequence[Message]) -> Tried:
        """What was found out with messages of this make; once for each.

        Raises PlanError for a template that loses, repeats or reorders texts.
        """
        make = tuple((each["role"], *map(_kind, each["content"])) for each in messages)
        # Another thread may clear what is known at any time.
        found = self._tried.get(make)
        if found is None:
            found = self._found_out(messages)
            if len(self._tried) >= _MAKES:
                self._tried.clear()
            self._tried[make] = found
        return found

    def _found_out(self, messages: Sequence[Message]) -> Tried:
        errors = []
        for strings in _STRINGS:
            try:
                return Tried(self._moves(messages, strings), strings)
            except PlanError as error:
                errors.append(error)
        raise errors[0]

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
        texts = [
            (given["role"], part["text"])
            for given in messages
            for part in given["content"]
            if _kind(part) == "text"
        ]
        numbers = map(str, range(len(texts)))
        kinds = [_kind(part) for given in messages for part in given["content"]]
        expected = [
            next(numbers) if kind == "text" else self.placeholder
            for kind in kinds
            if kind in ("text", "image")
        ]
        numbered = _numbered(messages, mark)
        text = self._rendered(numbered, strings)
        if "'type': 'text'" in text:
            raise _refused("expects a message as one string, and would print the list of its parts")
        split = re.split(f"{OPEN}([0-9]+){CLOSE}|({re.escape(self.placeholder)})", text)
        found = [piece for place, piece in enumerate(split) if place % 3 and piece]
        wanted = [each for each in expected if each != self.placeholder]
        seen = [each for each in found if each != self.placeholder]
        if wanted != seen:
            raise _refused(_what(texts, seen))
        return found != expected


def check_options(processor: Any, options: Mapping[str, Any], layout: Layout) -> None:
    """Raises ConfigError for options of which the template knows nothing."""
    if layout != "chat":
        raise ConfigError("template_options need `layout: chat`")
    template = str(getattr(processor, "chat_template", ""))
    for name in options:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise ConfigError(
                f"the model's chat template has no option {name!r}",
                where="model.settings.template_options",
                hint="see the variables used in its chat_template",
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
        return "shows a text in the prompt more than once"
    place = next(place for place, number in enumerate(seen) if number != str(place))
    name = "the system text" if texts[place][0] == "system" else _begun(texts[place][1])
    return f"moves {name} after a text that should follow it"


def _refused(does: str) -> PlanError:
    return PlanError(f"the model's chat template {does}", hint=_OTHERWISE)


def _kind(part: dict[str, str]) -> str:
    """image, text, or blank: white space is the template's own."""
    return "blank" if part["type"] == "text" and not part["text"].strip() else part["type"]


def _kept(part: dict[str, str]) -> str:
    """What a make says of a part: its kind, and white space as it is."""
    if part["type"] != "text":
        return part["type"]
    return part["text"] if part["text"].isspace() or not part["text"] else "text"


def _numbered(messages: Sequence[Message], text_of: Callable[[int], str]) -> list[Message]:
    """The messages, each text made of its number."""
    count, made = itertools.count(), []
    for given in messages:
        content = [
            {"type": "text", "text": text_of(next(count))} if _kind(part) == "text" else part
            for part in given["content"]
        ]
        made.append(message(given["role"], content))
    return made


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for given in messages:
        for part in given["content"]:
            if _kind(part) == "text":
                yield part["text"]


def _as_given(messages: Sequence[Message], strings: Roles) -> list[Message]:
    """The messages; those of the roles `strings` with one string as their content, where they hold texts
    alone."""
    return [
        {
            **each,
            "content": functools.reduce(operator.add, [p["text"] for p in each["content"]], ""),
        }
        if each["role"] in strings and all(p["type"] == "text" for p in each["content"])
        else each
        for each in messages
    ]


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _begun(text: str) -> str:
    short = _squeezed(text)
    return repr(short if len(short) <= 40 else f"{short[:39]}…")
