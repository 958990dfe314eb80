"""`emu2eval ls`: what is shipped, known or stored. Plain text, so that it appears at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emu2eval.errors import StoreError, UnknownName
from emu2eval.report.notes import counted
from emu2eval.spec import catalog

if TYPE_CHECKING:
    from emu2eval.adapters.huggingface.families import Family

KINDS = ("adapters", "families", "models", "papers", "runs", "scorers", "tasks")


def listing(what: str, out: Path | None = None) -> str:
    """Two columns, name and title, one a line. Raises UnknownName for a kind that does not exist."""
    if what not in KINDS:
        raise UnknownName("kind of thing to list", what, KINDS)
    if what in ("tasks", "models", "papers"):
        lines = list(catalog.titles(what.removesuffix("s")))
    elif what == "families":
        lines = _families()
    elif what == "runs":
        lines = _runs(out)
    else:
        lines = _registered(what.removesuffix("s"))
    if not lines:
        return f"there are no {what} yet\n"
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:<{width}}  {title}".rstrip() + "\n" for name, title in lines)


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
