"""The options of readers in docs/how-to/own-data.md; `python -m emu2eval.doctor.data_page` writes them."""

from __future__ import annotations

from pathlib import Path

from emu2eval.doctor.parts import parts
from emu2eval.spec.options import Option

READERS = ("table", "parquet", "datasets", "image-folder", "webdataset")
"""Of a user's own data, which share their options."""

_PAGE = Path(__file__).parents[2] / "docs/how-to/own-data.md"
_START, _END = "<!-- options: written by", "<!-- end of options -->"


def tables() -> str:
    """One table of what all share, one of what single readers take besides."""
    known = {each.name: each.options for each in parts("readers")}
    every = {reader: {each.name: each for each in known[reader]} for reader in READERS}
    shared = [
        each for each in every["table"].values() if all(each in o.values() for o in every.values())
    ]
    own: dict[Option, list[str]] = {}
    for reader, options in every.items():
        for each in options.values():
            if each not in shared:
                own.setdefault(each, []).append(f"`{reader}`")
    lines = ["Of every reader on this page:", "", "| option | value | default | |", _RULE * 4 + "|"]
    lines += [f"| {_cells(each)} |" for each in shared]
    lines += ["", "Of some:", "", "| option | of | value | default | |", _RULE * 5 + "|"]
    for each, readers in own.items():
        name, rest = _cells(each).split(" | ", 1)
        lines.append(f"| {name} | {', '.join(readers)} | {rest} |")
    return "\n".join(lines)


_RULE = "| --- "


def _cells(option: Option) -> str:
    default = "" if option.required else f"`{option.default or repr('')}`"
    about = option.about.replace("|", "\\|")
    return f"`{option.name}` | {option.type} | {default} | {about}"


def page(text: str) -> str:
    """The page with the tables of today."""
    before, _, rest = text.partition(_START)
    first, _, inner = rest.partition("\n")
    _, _, after = inner.partition(_END)
    return f"{before}{_START}{first}\n\n{tables()}\n\n{_END}{after}"


if __name__ == "__main__":
    _PAGE.write_text(page(_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
