"""`emu2eval ls scorers` and the like: each part with its options, as text that fits the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence

import msgspec

from emu2eval.doctor.parts import Part, part, parts
from emu2eval.report.formats import json_text
from emu2eval.spec.options import Option


def parts_text(kinds: str, names: Sequence[str] = ()) -> str:
    """Every part of a kind with its options; those that are named in full. Raises UnknownName."""
    width = max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))
    if names:
        return "\n".join("\n".join(_whole(part(kinds, name), width)) + "\n" for name in names)
    return "".join("\n".join(_short(each, width)) + "\n" for each in parts(kinds))


def parts_json(kinds: str, names: Sequence[str] = ()) -> str:
    """The same for programs: kind -> name -> what is known of it."""
    found = [part(kinds, name) for name in names] if names else parts(kinds, uses=True)
    return json_text({kinds: {each.name: msgspec.to_builtins(each) for each in found}})


def _short(each: Part, width: int) -> Iterator[str]:
    said = f"cannot be inspected here: {each.lacks}" if each.lacks else each.about
    yield from _wrapped(f"{each.name}  {said}", width, "    ")
    for option in each.options:
        yield from _option(option, width)


def _whole(each: Part, width: int) -> Iterator[str]:
    yield f"{each.kind} {each.name}" + (f" ({each.where})" if each.where else "")
    if each.lacks:
        yield f"cannot be inspected here: {each.lacks}"
    if each.text or each.about:
        yield ""
        for paragraph in (each.text or each.about).split("\n\n"):
            yield from _wrapped(" ".join(paragraph.split()), width)
    if each.options:
        yield ""
        yield "options"
        for option in each.options:
            yield from _option(option, width)
    if each.used_by:
        yield ""
        yield from _wrapped(f"used by {', '.join(each.used_by)}", width, "  ")
    if each.example:
        yield ""
        yield "example"
        yield from (f"  {line}".rstrip() for line in each.example.splitlines())


def _option(option: Option, width: int) -> Iterator[str]:
    needed = "(needed)" if option.required else f"[{option.default}]"
    says = f": {option.about}" if option.about else ""
    yield from _wrapped(f"    {option.name}  {option.type} {needed}{says}", width, " " * 8)


def _wrapped(text: str, width: int, later: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    ) or [""]
