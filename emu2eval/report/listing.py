"""`emu2eval ls`: what is shipped, known or stored. Plain text, so that it appears at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emu2eval.errors import StoreError, UnknownName
from emu2eval.report.formats import json_text
from emu2eval.report.notes import counted
from emu2eval.spec import catalog

if TYPE_CHECKING:
    from emu2eval.adapters.huggingface.families import Family

STORED = ("tasks", "suites", "models", "runs", "papers", "families")
PARTS = (
    *("readers", "choosers", "encoders", "outputs", "cleaners", "scorers", "judges"),
    *("adapters", "protocols", "submissions", "exports"),
)
"""`doctor.parts.KINDS`, which takes a moment to import."""
KINDS = (*STORED, *PARTS)
FIRST = (*STORED, "scorers", "adapters")
"""What people look for first; also what is shown where no kind is named."""


def listing(what: str | None, out: Path | None = None, names: Sequence[str] = ()) -> str:
    """Two columns, name and title, one a line; of the first kinds, where none is named. Parts
    of one kind with their options, and those that are named in full.

    Raises UnknownName for a kind or a part that does not exist.
    """
    _check_names(what, names)
    if what in PARTS:
        from emu2eval.report.parts import parts_text

        return parts_text(what, names)
    if what is None:
        return (
            "\n".join(
                f"{kind}\n" + "".join(f"  {line}\n" for line in _columns(kind, out).splitlines())
                for kind in FIRST
            )
            + f"\nand emu2eval ls {', '.join(kind for kind in KINDS if kind not in FIRST)}\n"
        )
    return _columns(what, out)


def listing_json(what: str | None, out: Path | None = None, names: Sequence[str] = ()) -> str:
    """As `listing`, for programs: kind -> name -> title, or all that is known of a part."""
    _check_names(what, names)
    if what in PARTS:
        from emu2eval.report.parts import parts_json

        return parts_json(what, names)
    return json_text(
        {kind: dict(entries(kind, out)) for kind in (FIRST if what is None else [what])}
    )


def _check_names(what: str | None, names: Sequence[str]) -> None:
    if names and what not in PARTS:
        raise UnknownName(
            "kind of part",
            str(what),
            PARTS,
            hint="these kinds take a name, for example: emu2eval ls scorers vqa_accuracy",
        )


def _columns(what: str, out: Path | None) -> str:
    lines = entries(what, out)
    if not lines:
        return f"no {what} yet\n"
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:<{width}}  {title}".rstrip() + "\n" for name, title in lines)


def entries(what: str, out: Path | None = None) -> list[tuple[str, str]]:
    """(name, title) of everything of a kind. Raises UnknownName."""
    if what not in KINDS:
        raise UnknownName("kind to list", what, KINDS)
    if what == "suites":
        return _suites()
    if what in ("tasks", "models", "papers"):
        return list(catalog.titles(what.removesuffix("s")))
    if what == "families":
        return _families()
    if what == "runs":
        return _runs(out)
    return _parts(what)


def _suites() -> list[tuple[str, str]]:
    from emu2eval.spec.suites import load_suite

    found = []
    for name, title in catalog.titles("suite"):
        tasks = dict.fromkeys(entry.task for entry in load_suite(name).entries)
        found.append((name, f"{title} ({', '.join(tasks)})"))
    return found


def _families() -> list[tuple[str, str]]:
    from emu2eval.adapters.huggingface.families import FAMILIES

    def said(family: Family) -> str:
        wanted = f" {' and '.join(family.packages)}" if family.standing == "needs" else ""
        return f"{family.standing}{wanted}{f': {family.why}' if family.why else ''}"

    return [(family.model_type, said(family)) for family in FAMILIES]


def _runs(out: Path | None) -> list[tuple[str, str]]:
    from emu2eval.report.formats import ends
    from emu2eval.runs import locate
    from emu2eval.runs.scores import read_rows

    lines = []
    for folder in locate.folders(out):
        try:
            rows = read_rows(folder)
        except StoreError as damaged:
            lines.append((folder.name, f"unreadable: {damaged.hint}"))
            continue
        if not rows or (rows[0].value is None and not rows[0].hidden):
            lines.append((folder.name, "not scored yet"))
            continue
        whole = rows[0]
        if whole.value is None:
            lines.append((folder.name, counted(whole.hidden, "hidden answer")))
            continue
        digits = whole.digits
        error = f" ± {whole.stderr:.{digits}f}" if whole.stderr is not None else ""
        error += f" {ends(whole.low, whole.high, digits)}" if whole.low is not None else ""
        unscored = f", {whole.unscored:,} unscored" if whole.unscored else ""
        text = f"{whole.value:.{digits}f}{error} {whole.label}, n {whole.n:,}{unscored}"
        lines.append((folder.name, text))
    return lines


def _parts(kinds: str) -> list[tuple[str, str]]:
    from emu2eval.doctor.parts import parts

    return [(each.name, each.about or f"{each.where} ({each.lacks})") for each in parts(kinds)]
