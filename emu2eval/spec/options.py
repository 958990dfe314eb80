"""The options of a part, described: name, kind of value, default, and what its docstrings say of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from emu2eval.spec.kinds import declared, describe
from emu2eval.spec.settings import Settings


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option of a part. name: with dots inside another one. default: as YAML has it; None where it is
    required. about: "" where nobody says."""

    name: str
    type: str
    required: bool = False
    default: str | None = None
    about: str = ""


def options_of(
    fields: Sequence[msgspec.structs.FieldInfo],
    docs: Sequence[str],
    defaults: Mapping[str, Any],
    before: str = "",
) -> Iterator[Option]:
    """The declared fields as options. docs: the docstrings that may speak of them, the nearest first;
    defaults: of a function's parameters, which its struct does not know."""
    said = meanings(docs, [field.encode_name for field in fields])
    for field in fields:
        name = field.encode_name
        inner = _struct(field.type)
        default = _default(field, defaults)
        yield Option(
            name=f"{before}{name}",
            type=words(field.type) if inner is None else "a mapping",
            required=field.required,
            default=None if field.required else shown(default),
            about=described(field.type) or said.get(name, ""),
        )
        if inner is not None:
            below = {k: getattr(default, k) for k in inner.__struct_fields__ if hasattr(default, k)}
            yield from options_of(
                msgspec.structs.fields(inner), docs_of(inner), below, f"{before}{name}."
            )


def docs_of(cls: type) -> list[str]:
    """The docstrings of a class and of those that it extends, down to what every one of them extends."""
    found = []
    for each in cls.__mro__:
        if each in (Settings, msgspec.Struct, object):
            break
        text = each.__dict__.get("__doc__")
        made = each.__dict__.get("__init__")
        found += [text or "", getattr(made, "__doc__", None) or ""]
    return [inspect.cleandoc(text) for text in found if text]


def meanings(docs: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """What docstrings say of these names, in the form `name: words` or `name, other: words`.

    >>> meanings(["Draws. seed, noise: of the\\ndraw; size: in pixels."], ["seed", "noise", "size"])
    {'seed': 'of the draw', 'noise': 'of the draw', 'size': 'in pixels'}
    """
    found: dict[str, str] = {}
    for doc in docs:
        for paragraph in re.split(r"\n\s*\n", doc):
            for each in _said(" ".join(paragraph.split()), names):
                for name in each.names:
                    found.setdefault(name, each.words.strip().rstrip(".;").strip())
    return found


def besides(doc: str, names: Sequence[str]) -> str:
    """What a docstring says besides the meanings of these names.

    >>> besides("Draws; seed: of the draw. Groups: none.", ["seed"])
    'Draws; Groups: none.'
    """
    kept = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(doc)):
        text = " ".join(paragraph.split())
        said = list(_said(text, names))
        for each in reversed(said):
            text = f"{text[: each.start]} {text[each.end :]}"
        kept.append(" ".join(text.split()) if said else paragraph)
    return "\n\n".join(each for each in kept if each.strip())


class _Meaning(NamedTuple):
    names: list[str]
    words: str
    start: int
    end: int


def _said(text: str, names: Sequence[str]) -> Iterator[_Meaning]:
    """The places of a paragraph that say what some of the names mean."""
    if not names:
        return
    one = rf"`?(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})`?"
    start = re.compile(rf"(?:^|(?<=[.;:)] )|(?<=\n))({one}(?:(?:, (?:and )?| and ){one})*): ")
    places = list(start.finditer(text))
    for place, following in zip(places, [*places[1:], None], strict=False):
        end = following.start() if following else len(text)
        words = _OTHER.split(text[place.end() : end])[0]
        named = [name for name in re.findall(r"\w+", place[1]) if name in names]
        yield _Meaning(named, words, place.start(), place.end() + len(words))


_OTHER = re.compile(r"(?<=[.;]) (?=[A-Za-z]\w*(?:, \w+)*: )")
"""Where a docstring goes on with something that is no option, such as `Groups: …`."""


def described(kind: Any) -> str:
    """What the declaration itself says, as `Annotated[int, Meta(description="…")]`."""
    for each in (kind, *getattr(kind, "__args__", ())):
        for note in getattr(each, "__metadata__", ()):
            if isinstance(note, msgspec.Meta) and note.description:
                return note.description
    return ""


def words(kind: Any) -> str:
    """The kind of value, for people."""
    if kind is Any:
        return "anything"
    said = describe(declared(kind))
    return "anything" if said == "an object" else said


def shown(value: Any) -> str:
    """A value as YAML has it, on one line.

    >>> shown(None), shown(("a", "b")), shown(0.5)
    ('null', '[a, b]', '0.5')
    """
    if isinstance(value, str):
        return value if value.strip() and value.isprintable() else repr(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, msgspec.Struct):
        given = {k: v for k, v in msgspec.structs.asdict(value).items() if v is not None}
        return shown(given)
    return str(value)


def _default(field: msgspec.structs.FieldInfo, defaults: Mapping[str, Any]) -> Any:
    if field.name in defaults:
        return defaults[field.name]
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _struct(kind: Any) -> type[Settings] | None:
    """The one struct that a value of the kind may be."""
    parts = [kind, *getattr(kind, "__args__", ())] if not isinstance(kind, type) else [kind]
    found = [each for each in parts if isinstance(each, type) and issubclass(each, Settings)]
    return found[0] if len(found) == 1 and _plain(kind) else None


def _plain(kind: Any) -> bool:
    """Neither a list nor a mapping of them."""
    return getattr(kind, "__origin__", None) not in (tuple, list, dict, set, frozenset)


def parameters(factory: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a factory's parameters."""
    try:
        found = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {each.name: each.default for each in found if each.default is not each.empty}
