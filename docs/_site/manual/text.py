"""Docstrings and values as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from emu2eval.spec.options import Option

_LINKS = (
    (re.compile(r"\bhttps?://[^\s)>,;]*[^\s)>,;.]"), "{0}"),
    (re.compile(r"\barXiv[: ](\d{4}\.\d{4,5})(?:v\d+)?"), "https://arxiv.org/abs/{1}"),
    (re.compile(r"(?<![\w/.])github\.com/[\w-]+/[\w.-]*\w"), "https://{0}"),
)
_SPECIAL = re.compile(r"([\\*\[\]<>|]|(?<![a-z0-9])_|_(?![a-z0-9]))", re.IGNORECASE)


def prose(text: str) -> str:
    """One paragraph of a docstring: what Markdown would take for markup is escaped, addresses are linked.

    >>> prose("0* or <image 1>, see `a*b` (arXiv 2312.13286)")
    '0\\\\* or \\\\<image 1\\\\>, see `a*b` ([arXiv 2312.13286](https://arxiv.org/abs/2312.13286))'
    """
    pieces = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(p if n % 2 else _linked(p) for n, p in enumerate(pieces))


def _linked(text: str) -> str:
    found = sorted(
        (match.start(), match.end(), f"[{_plain(match[0])}]({form.format(*_groups(match))})")
        for pattern, form in _LINKS
        for match in pattern.finditer(text)
    )
    made, end = "", 0
    for start, stop, link in found:
        if start >= end:
            made, end = made + _plain(text[end:start]) + link, stop
    return made + _plain(text[end:])


def _groups(match: re.Match[str]) -> tuple[str, ...]:
    return (match[0], *match.groups())


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def doc(text: str) -> str:
    """A docstring: its paragraphs, and what runs in it as code."""
    made = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = block.splitlines()
        if lines and (lines[0].startswith(">>>") or all(line[:4] == "    " for line in lines)):
            shown = re.sub(r"  # doctest: .*", "", inspect.cleandoc(block))
            made.append(fence(shown, "python"))
        else:
            made.append(prose(block))
    return "\n\n".join(made)


def first(text: str) -> str:
    """The first paragraph, for a line of a table."""
    return prose(inspect.cleandoc(text or "").split("\n\n")[0])


def sentence(text: str) -> str:
    """Its first sentence alone."""
    whole = " ".join((text or "").split("\n\n")[0].split())
    for end in re.finditer(r"[.;] (?=[A-Z`a-z])", whole):
        before = whole[: end.start()]
        if before.count("(") == before.count(")") and re.search(r"[a-z0-9)`\]]$", before):
            return prose(before)
    return prose(whole.rstrip(".:;"))


def fence(text: str, language: str = "", kind: str = "") -> str:
    """A block of code, whatever backticks it holds."""
    ticks = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    head = f" {{ .{language or 'text'} .{kind} }}" if kind else language
    return f"{ticks}{head}\n{text.rstrip()}\n{ticks}"


class _Dumper(yaml.SafeDumper):
    """Texts with newlines or spaces at an end as people write them in these files: in double quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    quoted = text != text.strip() or "\n" in text or "{" in text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    plain = not any(isinstance(each, dict | list) for each in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain or None)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def as_yaml(value: Any) -> str:
    """A mapping as people write it in a file; what says nothing is left out."""
    text: str = yaml.dump(
        _said(value),
        Dumper=_Dumper,
        default_flow_style=None,
        sort_keys=False,
        allow_unicode=True,
        width=1000,
    )
    return fence(text, "yaml")


def _said(value: Any) -> Any:
    """Without nulls and empty mappings."""
    if not isinstance(value, dict):
        return value
    kept = {key: _said(each) for key, each in value.items()}
    return {key: each for key, each in kept.items() if each is not None and each != {}}


def code(text: str) -> str:
    """`text` as code within a line.

    >>> code("a`b"), code("")
    ('`` a`b ``', '')
    """
    if not text:
        return ""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells hold Markdown; a bar within code needs no escape there."""
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split())


def heading(level: int, title: str, anchor: str = "") -> str:
    return f"{'#' * level} {title}" + (f" {{#{anchor}}}" if anchor else "")


def options(listed: Iterable[Option]) -> str:
    """A table of options: name, kind of value, default, what it is."""
    rows = [
        (
            code(each.name),
            prose(each.type),
            "required" if each.required else code(each.default or "''"),
            prose(each.about),
        )
        for each in listed
    ]
    return table(("option", "value", "default", "what it is"), rows)


def page(*blocks: str) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"
