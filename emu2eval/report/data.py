"""`emu2eval data`: what is there of every task's data, and whether it is what it should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from emu2eval import catalog
from emu2eval.adapters.conformance import Finding
from emu2eval.config import Task, load_task
from emu2eval.data.check import Seen, broken, counts, missing, walk
from emu2eval.data.load import load_split
from emu2eval.data.presence import OFFICIAL, Piece, pieces
from emu2eval.data.sources import choose, require
from emu2eval.errors import UnknownName, UserError
from emu2eval.prompts import PromptBuilder
from emu2eval.types import Sample

_STYLES = {"there": "green", "half there": "yellow", "missing": "red", "refused": "dim"}
_SHOWN = 10
"""So many names of missing or broken pictures are printed."""


def status(names: Sequence[str]) -> RenderableType:
    """One row for each task, split and source: what is there, what to fetch. Reads no file of data."""
    table = Table(title="data", title_justify="left", caption_justify="left")
    for name in ("task", "split", "source"):
        table.add_column(name, no_wrap=True)
    table.add_column("data")
    table.add_column("still to fetch", ratio=3)
    table.add_column("from", ratio=2, overflow="fold")
    table.add_column("licence", ratio=2)
    root = catalog.data_root()
    where = "" if root.is_dir() else ", not there: mkdir it, or export EMU2EVAL_DATA=/path/to/data"
    table.caption = f"data root {root.resolve()}{where}"
    for name in names or catalog.names("task"):
        task = load_task(name)
        licence = task.spec.licence
        for split in task.spec.data.splits:
            for source in (OFFICIAL, *task.spec.data.sources):
                row = _status_row(task, split, source)
                if row is not None:
                    table.add_row(*row, Text(licence))
                    licence = ""
        table.add_section()
    return table


def _status_row(task: Task, split: str, source: str) -> tuple[str | Text, ...] | None:
    state, wanted, place = _state(task, split, source)
    if state is None:
        return None
    return task.name, split, source, Text(state, _STYLES.get(state, "")), Text(wanted), Text(place)


def _state(task: Task, split: str, source: str) -> tuple[str | None, str, str]:
    """(state or None for a source that has nothing to do with the split, what is wanted, from where)."""
    if source != OFFICIAL:
        spec = task.spec.data.sources[source]
        if split in spec.refused:
            return "refused", spec.refused[split], spec.repo
        if split not in spec.splits:
            return None, "", ""
    listed = pieces(task, split, source)
    place = task.spec.source if source == OFFICIAL else task.spec.data.sources[source].repo
    if not listed:
        return "there", "nothing to fetch", place
    states = {piece.state for piece in listed}
    state = states.pop() if len(states) == 1 else "half"
    wanted = "; ".join(_wanted(piece) for piece in listed if piece.state != "there")
    return ("half there" if state == "half" else state), wanted, place


def _wanted(piece: Piece) -> str:
    size = f", {piece.size}" if piece.size else ""
    seen = f" ({piece.seen})" if piece.state == "half" else ""
    return f"{piece.what}{size}{seen}" + (f": {piece.found}" if piece.found else "")


def check(
    name: str, split: str | None = None, source: str | None = None, *, decode: bool = False
) -> Iterator[Finding]:
    """One split, or each that is there at least in part. decode: opens every picture too.

    Raises MissingData where nothing is there.
    """
    task = load_task(name, split=split)
    splits = [split] if split is not None else _splits_there(task, source)
    if not splits:
        task, _ = choose(task, [task.split], source)
        require(task, [task.split])
        splits = [task.split]
    for each in splits:
        yield from _check_split(task, each, source, decode)
    if split is None:
        for each in task.spec.data.splits:
            if each not in splits:
                yield Finding(each, True, "not there, so not checked")


def _splits_there(task: Task, source: str | None) -> list[str]:
    found = []
    for split in task.spec.data.splits:
        try:
            chosen, _ = choose(task, [split], source)
        except UnknownName:
            raise
        except UserError:
            continue  # the source does not hold this split as it is
        listed = pieces(chosen, split, chosen.sources.get(split, OFFICIAL))
        if not listed or any(piece.state != "missing" for piece in listed):
            found.append(split)
    return found


def _check_split(task: Task, split: str, wanted: str | None, decode: bool) -> Iterator[Finding]:
    try:
        task, _ = choose(task, [split], wanted)
        source = task.sources.get(split, OFFICIAL)
        for piece in pieces(task, split, source):
            if piece.usable and piece.seen:
                yield Finding(f"{split}: {piece.what}", piece.state == "there", piece.seen)
        samples = load_split(task, split)
    except UserError as error:
        yield Finding(f"{split}: read", False, str(error))
        return
    seen = walk(samples)
    for what, holds, found in counts(seen, task.spec.data.expected.get(split)):
        yield Finding(f"{split}: {what}", holds, found)
    yield _fields(task, split, seen, samples)
    lost = missing(seen.pictures.values())
    if lost:
        yield Finding(f"{split}: picture files", False, _list(lost, "do not exist"))
    elif seen.pictures:
        yield Finding(f"{split}: picture files", True, "all there")
    if decode and seen.pictures:
        yield _decoded(split, seen)


def _fields(task: Task, split: str, seen: Seen, samples: Sequence[Sample]) -> Finding:
    """Every sample has what the templates and the scorer need."""
    rule = f"{split}: fields"
    for what, (count, first) in seen.faults.items():
        return Finding(rule, False, f"{count:,} samples {what}, the first is {first}")
    for name in task.spec.protocols:
        each = load_task(str(task.document.path), protocol=name)
        where = task.document.where(("protocols", name))
        builder = PromptBuilder(each.protocol, where)
        shown = split == (each.spec.demonstrations.split or each.split)
        for sample in samples:
            try:
                builder.build(sample, [sample] if shown else [])
            except UserError as error:
                return Finding(rule, False, f"sample {sample.id}, protocol {name}: {error}")
    held = [", ".join(sorted(seen.fields)) or "none"]
    most = max(seen.references)
    if most:
        few = min(seen.references)
        held.append(f"{most if few == most else f'{few} to {most}'} references each")
    else:
        held.append(
            "no references" + (" (answers hidden)" if not _shown_split(task, split) else "")
        )
    held += [f"{name}: {len(labels):,} labels" for name, labels in seen.groups.items()]
    return Finding(rule, True, "; ".join(held))


def _shown_split(task: Task, split: str) -> bool:
    return split == task.spec.demonstrations.split


def _decoded(split: str, seen: Seen) -> Finding:
    listed = list(seen.pictures.values())
    with Progress(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(f"opening the pictures of {split}", total=len(listed))
        errors = broken(listed, lambda done: bar.update(line, completed=done))
    if errors:
        return Finding(
            f"{split}: pictures open",
            False,
            _list([f"{error.where}: {error.what}" for error in errors], "cannot be used"),
        )
    return Finding(f"{split}: pictures open", True, f"{len(listed):,} decoded")


def _list(names: list[str], what: str) -> str:
    more = f"\n… and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{len(names):,} {what}:\n" + "\n".join(names[:_SHOWN]) + more
