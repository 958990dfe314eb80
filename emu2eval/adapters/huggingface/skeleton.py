"""A chat template that writes texts without looking at them is rendered once for all prompts of one make.

Whether it looks is found out by giving it texts that tell (`Watched`). What would escape them, such as macros
and texts put together from others, is looked for in the template's source. In doubt it looks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from emu2eval.adapters.local.private import compiled_template

OPEN, CLOSE = "\ue003", "\ue004"
"""Around the number of a text that stands in for the prompt's own when a template is tried."""
LEFT, RIGHT = "\t\x0b", "\x0c\n\t"
"""White space put around such a mark, to see whether it is trimmed."""
_MARK = re.compile(f"{OPEN}([0-9]+){CLOSE}")
_TRIMS: tuple[Callable[[str], str], ...] = (
    lambda text: text, lambda text: text.lstrip(), lambda text: text.rstrip(), lambda text: text.strip(),
)  # fmt: skip


def mark(number: int) -> str:
    return f"{OPEN}{number}{CLOSE}"


@dataclass(frozen=True, slots=True)
class Skeleton:
    """literals: what the template writes around the texts; trims: what it does to white space of each."""

    literals: tuple[str, ...]
    trims: tuple[Callable[[str], str], ...]

    def filled(self, texts: Sequence[str]) -> str:
        written = [self.literals[0]]
        for text, trim, literal in zip(texts, self.trims, self.literals[1:], strict=True):
            written += (trim(text), literal)
        return "".join(written)


def skeleton(
    processor: Any,
    options: Mapping[str, Any],
    given: Callable[[Callable[[int], str]], list[dict[str, Any]]],
    rendered: Callable[[list[dict[str, Any]]], str],
    count: int,
) -> Skeleton | None:
    """What the template makes of messages that are alike but for their texts; None where it may look at them.

    given: the messages, each text made of its number; rendered: what the processor makes of messages.
    """
    try:
        template = compiled_template(processor) if _renders_alone(processor) else None
        if template is None or not _writes_only(template.environment, processor.chat_template):
            return None
        named = {**processor.tokenizer.special_tokens_map, **options}

        def split(text_of: Callable[[int], str]) -> list[str] | None:
            """The literals; None where it looked, or the processor writes something else."""
            looked: list[str] = []
            written = template.render(
                messages=given(lambda number: Watched(text_of(number), looked)),
                tools=None, documents=None, add_generation_prompt=True, **named,
            )  # fmt: skip
            parts = _MARK.split(written)
            in_order = parts[1::2] == [str(number) for number in range(count)]
            same = not looked and in_order and written == rendered(given(text_of))
            return parts[::2] if same else None

        bare = split(mark)
        padded = bare and split(lambda number: f"{LEFT}{mark(number)}{RIGHT}")
    except Exception:
        # Whatever a template raises, the processor's own call tells.
        return None
    if not bare or not padded:
        return None
    return _compared(bare, padded)


def _compared(bare: list[str], padded: list[str]) -> Skeleton | None:
    lefts, rights = [False], list[bool]()
    for place, (literal, seen) in enumerate(zip(bare, padded, strict=True)):
        found = [
            (right, left)
            for right in ((False,) if not place else (True, False))
            for left in ((False,) if place == len(bare) - 1 else (True, False))
            if seen == f"{RIGHT * right}{literal}{LEFT * left}"
        ]
        if len(found) != 1:
            return None
        rights.append(found[0][0])
        lefts.append(found[0][1])
    # White space of text n stands at the end of literal n and at the beginning of literal n + 1.
    trims = [
        _TRIMS[(not left) + 2 * (not right)]
        for left, right in zip(lefts[1:-1], rights[1:], strict=True)
    ]
    return Skeleton(tuple(bare), tuple(trims))


class Watched(str):
    """A text that notes what is done with it, other than to write, to trim or to extend it."""

    __slots__ = ("looked",)
    looked: list[str]

    def __new__(cls, text: str, looked: list[str]) -> Watched:
        made = super().__new__(cls, text)
        made.looked = looked
        return made

    def __str__(self) -> Watched:
        return self

    def __bool__(self) -> bool:
        # Texts of white space alone are part of a prompt's make.
        return True

    def __add__(self, other: str) -> Watched:
        return Watched(str.__add__(self, other), self.looked)

    def __radd__(self, other: str) -> Watched:
        return Watched(str.__add__(other, self), self.looked)

    def _trimmed(self, own: Callable[..., str], chars: str | None) -> Watched:
        if chars is not None:
            self.looked.append(own.__name__)
        return Watched(own(self, chars), self.looked)

    def strip(self, chars: str | None = None, /) -> Watched:
        return self._trimmed(str.strip, chars)

    def lstrip(self, chars: str | None = None, /) -> Watched:
        return self._trimmed(str.lstrip, chars)

    def rstrip(self, chars: str | None = None, /) -> Watched:
        return self._trimmed(str.rstrip, chars)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            self.looked.append("==")
        return str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        self.looked.append("hash")
        return str.__hash__(self)


def _noted(name: str) -> Callable[..., Any]:
    own = getattr(str, name)

    def call(self: Watched, *given: Any, **named: Any) -> Any:
        self.looked.append(name)
        return own(self, *given, **named)

    return call


_QUIET = {
    "__class__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__init__", "__init_subclass__",
    "__new__", "__setattr__", "__sizeof__", "__subclasshook__",
}  # fmt: skip
for _name in set(dir(str)) - set(vars(Watched)) - _QUIET:
    setattr(Watched, _name, _noted(_name))

_FILTERS = frozenset(
    {"capitalize", "count", "default", "d", "first", "items", "last", "length", "list", "lower", "map",
     "rejectattr", "selectattr", "string", "title", "trim", "upper"}
)  # fmt: skip
_TESTS = frozenset(
    {"boolean", "defined", "divisibleby", "eq", "equalto", "even", "false", "filter", "iterable", "mapping",
     "ne", "none", "number", "odd", "sameas", "sequence", "string", "true", "undefined"}
)  # fmt: skip
_CALLS = frozenset({"namespace", "raise_exception", "range"})
_OF_CONTAINERS = frozenset({"append", "get", "items", "keys", "values"})
_JOINS = (
    "Concat",
    "Macro",
    "CallBlock",
    "FilterBlock",
    "AssignBlock",
    "Include",
    "Import",
    "FromImport",
)


def _renders_alone(processor: Any) -> bool:
    """Whether the processor does no more to messages than to give them to its template."""
    makers = [kind for kind in type(processor).__mro__ if "apply_chat_template" in vars(kind)]
    # SmolVLM's asks only whether there are videos.
    known = ("emu2eval.", "transformers.processing_utils", "transformers.models.smolvlm.")
    return all(kind.__module__.startswith(known) for kind in makers)


@cache
def _writes_only(environment: Any, source: str) -> bool:
    """Whether whatever the template does with a text is seen by a `Watched` one: it makes no other texts of
    it, and gives it to nothing that reads it unseen."""
    from jinja2 import nodes

    tree = environment.parse(source)
    if any(next(tree.find_all(getattr(nodes, name)), None) for name in _JOINS):
        return False
    for node in tree.find_all((nodes.Filter, nodes.Test, nodes.Call, nodes.Mod, nodes.Compare)):
        if isinstance(node, nodes.Filter):
            fine = node.name in _FILTERS and _filters_well(node)
        elif isinstance(node, nodes.Test):
            fine = node.name in _TESTS
        elif isinstance(node, nodes.Mod):
            fine = isinstance(node.right, nodes.Const) and not isinstance(node.right.value, str)
        elif isinstance(node, nodes.Compare):
            fine = all(
                operand.op not in ("in", "notin")
                or isinstance(node.expr, nodes.Const)
                or isinstance(operand.expr, (nodes.List, nodes.Tuple))
                for operand in node.ops
            )
        else:
            fine = _calls_well(node)
        if not fine:
            return False
    return True


def _filters_well(node: Any) -> bool:
    from jinja2 import nodes

    if node.name == "map":
        # By an attribute, and by no other filter.
        return not node.args
    if node.name in ("selectattr", "rejectattr"):
        return all(isinstance(a, nodes.Const) for a in node.args) and (
            len(node.args) < 2 or node.args[1].value in _TESTS
        )
    return True


def _calls_well(node: Any) -> bool:
    from jinja2 import nodes

    called = node.node
    if isinstance(called, nodes.Name):
        return called.name in _CALLS
    given = [*node.args, *(named.value for named in node.kwargs)]
    plain = all(isinstance(each, nodes.Const) for each in given) and not (
        node.dyn_args or node.dyn_kwargs
    )
    return isinstance(called, nodes.Getattr) and (called.attr in _OF_CONTAINERS or plain)
