"""`emu2eval ls`: what is shipped, known or stored. Plain text, so that it appears at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emu2eval.errors import StoreError, UnknownName
from emu2eval.report.formats import json_text
from emu2eval.report.notes import counted
from emu2eval.spec import catalog

if TYPE_CHECKING:
    from emu2eval.adapters.huggingface.families import Family

KINDS = ("tasks", "suites", "models", "runs", "papers", "scorers", "adapters", "families")
"""What people look for first."""


def listing(what: str | None, out: Path | None = None) -> str:
    """Two columns, name and title, one a line; of every kind, where none is named, under its heading.

    Raises UnknownName for a kind that does not exist.
    """
    if what is None:
        return "\n".join(
            f"{kind}\n" + "".join(f"  {line}\n" for line in _columns(kind, out).splitlines())
            for kind in KINDS
        )
    return _columns(what, out)


def listing_json(what: str | None, out: Path | None = None) -> str:
    """As `listing`, for programs: kind -> name -> title."""
    return json_text(
        {kind: dict(entries(kind, out)) for kind in (KINDS if what is None else [what])}
    )


def _columns(what: str, out: Path | None) -> str:
    lines = entries(what, out)
    if not lines:
        return f"there are no {what} yet\n"
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:<{width}}  {title}".rstrip() + "\n" for name, title in lines)


def entries(what: str, out: Path | None = None) -> list[tuple[str, str]]:
    """(name, title) of everything of a kind. Raises UnknownName."""
    if what not in KINDS:
        raise UnknownName("kind of thing to list", what, KINDS)
    if what == "suites":
        return _suites()
    if what in ("tasks", "models", "papers"):
        return list(catalog.titles(what.removesuffix("s")))
    if what == "families":
        return _families()
    if what == "runs":
        return _runs(out)
    return _registered(what.removesuffix("s"))


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
            lines.append((folder.name, f"cannot be read: {damaged.hint}"))
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


def _registered(kind: str) -> list[tuple[str, str]]:
    from emu2eval import registry
    from emu2eval.errors import UserError

    lines = []
    for name, target in registry.known(kind).items():
        try:
            doc = (registry.find(kind, name).__doc__ or "").strip().partition("\n")[0]
        except UserError as error:
            doc = f"{target} ({error.hint or error.what})"
        lines.append((name, doc))
    return lines
