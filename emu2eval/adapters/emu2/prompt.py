"""A Prompt as Emu2 reads it: ids with image slots, in the base or in the chat form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from emu2eval.adapters.emu2 import tokenizer as tokens
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.tokenizer import Tokenizer
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.pieces import Pieces, Stretch
from emu2eval.errors import PlanError
from emu2eval.types import Image, Part, Prompt, Video

SYSTEM = (
    "You are a helpful assistant, dedicated to delivering comprehensive and meticulous responses."
)
GROUNDING_SYSTEM = (
    "You are a helpful assistant, dedicated to provide concise and efficient answers."
)
PLACEHOLDERS = ("[<IMG_PLH>]", "[<VID_PLH>]")


Item = str | int | Shown
"""A prompt laid out: text, ids of special tokens, images."""


@dataclass(frozen=True, slots=True)
class Emu2Form:
    """How prompts are laid out for one model. system: None = the authors' own message (chat only)."""

    tokenizer: Tokenizer
    config: Emu2Config
    system: str | None = None
    grounding: bool = False
    _images: dict[tuple[int, str], Stretch] = field(default_factory=dict, compare=False)

    def lay_out(self, prompt: Prompt) -> list[Item]:
        """The base form continues one plain sequence; the chat form takes turns of two roles.

        Raises PlanError where a text holds the authors' placeholder strings.
        """
        if self.config.variant == "chat":
            return self._chat(prompt.conversation())
        items, asked = self._ask(prompt.flat())
        return [*items, *self._mark(self.grounding or asked)]

    def wants_boxes(self, prompt: Prompt) -> bool:
        """Boxes are wanted of every answer, or of this one: its question ends with <grounding>."""
        return self.grounding or self._ask(prompt.query)[1]

    def encode(self, items: Iterable[Item]) -> Encoded:
        """Ids of a layout."""
        return self.pieces(items).encoded

    def pieces(self, items: Iterable[Item]) -> Pieces:
        """Ids of a layout, in pieces. Images become [IMG] + slots + [/IMG]."""
        parts: list[str | int | tuple[int, ...]] = []
        shown: list[Shown] = []
        known: dict[tuple[int, ...], Stretch] = {}
        for item in items:
            if isinstance(item, Shown):
                piece = self._image(item.tokens, item.variety)
                known[piece.ids] = piece
                parts.append(piece.ids)
                shown.append(item)
            else:
                parts.append(item)
        laid = (known.get(ids) or Stretch(ids) for ids in self.tokenizer.stretches(parts))
        return Pieces(tuple(laid), tuple(shown))

    def with_reply(self, prompt: Prompt, items: Sequence[Item], reply: str) -> Pieces:
        """Prompt and reply as one text, so that the reply has the tokens it has in running text.

        Encoded apart, it would begin with a second word mark after the prompt's last space.
        """
        lead = " " if self.config.variant == "chat" else prompt.lead
        return self.pieces([*items, lead + reply])

    def _image(self, count: int, variety: str) -> Stretch:
        if (count, variety) not in self._images:
            ids = self.tokenizer.ids
            slot = ids[tokens.FRAME if variety else tokens.IMAGE]
            framed = (ids[tokens.BOI], *[slot] * count, ids[tokens.EOI])
            self._images[count, variety] = Stretch.of(framed, slot)
        return self._images[count, variety]

    def _chat(self, prompt: Prompt) -> list[Item]:
        user, assistant = (self.tokenizer.ids[role] for role in tokens.ROLES)
        query, asked = self._ask(prompt.query)
        boxes = self.grounding or asked
        default = GROUNDING_SYSTEM if boxes else SYSTEM
        own = default if self.system is None else self.system
        said = own if prompt.system is None else prompt.system
        items: list[Item] = [f"{said} "] if said else []
        for turn in prompt.turns:
            ask, marked = self._ask(turn.ask)
            items += [user, ": ", *ask, " ", assistant, ":", *(self._mark(marked) or [" "])]
            items += [*self._content(turn.reply), tokens.EOS]
        return [*items, user, ": ", *query, " ", assistant, ":", *self._mark(boxes)]

    def _ask(self, parts: Iterable[Part]) -> tuple[list[Item], bool]:
        """A question without a final <grounding>, and whether it had one: the authors' code asks for
        boxes by putting that token at the beginning of the reply."""
        items = self._content(parts)
        marked = bool(items) and items[-1] == self.tokenizer.ids[tokens.GROUNDING]
        return (items[:-1] if marked else items), marked

    def _mark(self, boxes: bool) -> list[Item]:
        return [self.tokenizer.ids[tokens.GROUNDING]] if boxes else []

    def _content(self, parts: Iterable[Part]) -> list[Item]:
        items: list[Item] = []
        for part in parts:
            if isinstance(part, Image):
                items.append(Shown(part, self.config.n_query))
            elif isinstance(part, Video):
                items.append(self.tokenizer.ids[tokens.VIDEO])
                items += [Shown(frame, self.config.v_query, "frame") for frame in part.frames]
            else:
                _refuse_placeholders(part)
                # Only markup counts as tokens. "[IMG]", "<image>" or "</s>" in a question are the
                # characters that it shows: data can neither open a slot nor end a turn.
                items += self.tokenizer.split(part, markup=True)
        return items


def _refuse_placeholders(text: str) -> None:
    for placeholder in PLACEHOLDERS:
        if placeholder in text:
            raise PlanError(
                f"a text in the prompt contains {placeholder!r}, the placeholder of an image that is not "
                "there",
                hint="write {image} in the task's template where the image belongs",
            )
