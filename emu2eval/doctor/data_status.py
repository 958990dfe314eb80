"""`emu2eval data`: which data of every task is present, and whether it is complete and correct."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from emu2eval.adapters.conformance import Finding
from emu2eval.data.load import load_split
from emu2eval.data.presence import OFFICIAL, Piece, pieces
from emu2eval.data.sources import choose, require
from emu2eval.doctor.data_check import SplitSurvey, broken, counts, missing, walk
from emu2eval.doctor.get.orders import came
from emu2eval.doctor.get.shown import in_bytes
from emu2eval.errors import UnknownName, UserError, printable
from emu2eval.prompts import PromptBuilder
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes
from emu2eval.spec.suites import entries
from emu2eval.spec.task import Task, load_task
from emu2eval.types import Sample

_STYLES = {"there": "green", "half there": "yellow", "missing": "red", "refused": "dim"}
_SHOWN = 10
"""So many names of missing or broken images are printed."""


def status(names: Sequence[str]) -> RenderableType:
    """One row for each task and source: what is there, what to fetch. Reads no file of data.

    Splits of which the same is said stand together.
    """
    table = Table(title="data", title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    table.add_column("split", max_width=24)
    for name in ("source", "data"):
        table.add_column(name, no_wrap=True)
    table.add_column("to download", ratio=5)
    table.add_column("size", ratio=2)
    table.add_column("source, licence", ratio=4, overflow="fold")
    root = catalog.data_root()
    where = (
        ""
        if root.is_dir()
        else " (does not exist): create it, or export EMU2EVAL_DATA=/path/to/data"
    )
    table.caption = (
        f"data root {root.resolve()}{where}\n"
        "to download what is missing: emu2eval data get TASK, except for files marked (by hand)"
    )
    for name in dict.fromkeys(e.task for e in entries(names)) or catalog.names("task"):
        task = load_task(name)
        said: set[str] = set()
        for line in _together(_lines(task)):
            # Whose it is, where it comes from and under what terms stands once a task.
            owner = "" if said else task.name
            terms = [line.place] if line.place not in said else []
            terms += [task.spec.licence] if not said else []
            said.add(line.place)
            table.add_row(
                owner,
                line.split,
                line.source,
                Text(line.state, _STYLES.get(line.state, "")),
                *(Text(text) for text in (line.wanted, line.size, "; ".join(filter(None, terms)))),
            )
    return table


@dataclass(frozen=True)
class _Line:
    split: str
    source: str
    state: str
    wanted: str
    size: str
    place: str


def _together(lines: Iterable[_Line]) -> list[_Line]:
    """Lines that differ in their split alone as one."""
    found: dict[_Line, list[str]] = {}
    for line in lines:
        found.setdefault(replace(line, split=""), []).append(line.split)
    return [replace(line, split=", ".join(splits)) for line, splits in found.items()]


def _lines(task: Task) -> Iterator[_Line]:
    data = task.spec.data
    if not data.downloads and not data.sources:
        yield _Line("all", OFFICIAL, "there", "nothing to download", "", task.spec.source)
        return
    for split in data.splits:
        yield _line(split, OFFICIAL, pieces(task, split, OFFICIAL), task.spec.source)
        for name, source in data.sources.items():
            if split in source.refused:
                yield _Line(split, name, "refused", source.refused[split], "", source.repo)
            elif split in source.splits:
                yield _line(split, name, pieces(task, split, name), source.repo)


def _line(split: str, source: str, listed: Sequence[Piece], place: str) -> _Line:
    states = {piece.state for piece in listed}
    state = states.pop() if len(states) == 1 else "half" if states else "there"
    return _Line(
        split,
        source,
        "half there" if state == "half" else state,
        "; ".join(_wanted(piece) for piece in listed if piece.state != "there"),
        " + ".join(filter(None, map(_size, listed))),
        place,
    )


def _wanted(piece: Piece) -> str:
    seen = f" ({piece.seen})" if piece.state == "half" else ""
    hand = "" if piece.get else " (by hand)"
    there = f" ({in_bytes(bytes_there)} downloaded)" if (bytes_there := came(piece)) else ""
    return f"{piece.what}{hand}{seen}{there}" + (f", but {piece.found}" if piece.found else "")


def _size(piece: Piece) -> str:
    """To the byte where somebody published it."""
    sizes = [remote.size for remote in piece.get]
    known = sum(size for size in sizes if size is not None)
    return in_bytes(known) if sizes and None not in sizes else piece.size


def check(
    name: str,
    split: str | None = None,
    source: str | None = None,
    *,
    decode: bool = False,
    changes: Changes | None = None,
) -> Iterator[Finding]:
    """One split, or each that is there at least in part. decode: opens every image too.

    Raises MissingData where nothing is there.
    """
    task = load_task(name, split=split, overrides=changes.task if changes else {})
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
                yield Finding(each, True, "not present, so not checked")


def _splits_there(task: Task, source: str | None) -> list[str]:
    """The splits of which something is there that not every split needs, as GQA's images are."""
    listed: dict[str, list[Piece]] = {}
    for split in task.spec.data.splits:
        try:
            chosen, _ = choose(task, [split], source)
        except UnknownName:
            raise
        except UserError:
            continue  # the source does not hold this split as it is
        listed[split] = pieces(chosen, split, chosen.sources.get(split, OFFICIAL))
    given = [{piece.gives for piece in own} for own in listed.values()]
    of_all = set.intersection(*given) if len(given) > 1 else set()
    return [split for split, own in listed.items() if _begun(own, of_all)]


def _begun(listed: Sequence[Piece], of_all: Collection[tuple[Path, ...]]) -> bool:
    """Whether something of a split is there. of_all: what the pieces give that all splits need."""
    own = [piece for piece in listed if piece.gives not in of_all] or listed
    return not own or any(piece.state != "missing" for piece in own)


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
    lost = missing(seen.images.values())
    if lost:
        yield Finding(f"{split}: image files", False, _list(lost, "do not exist"))
    elif seen.images:
        yield Finding(f"{split}: image files", True, "all present")
    if decode and seen.images:
        yield _decoded(split, seen)


def _fields(task: Task, split: str, seen: SplitSurvey, samples: Sequence[Sample]) -> Finding:
    """Every sample has what the templates and the scorer need."""
    rule = f"{split}: fields"
    for what, (count, first) in seen.faults.items():
        return Finding(rule, False, f"{count:,} samples {what}; the first is {first}")
    for name in task.spec.protocols:
        each = load_task(str(task.document.path), protocol=name)
        where = task.document.where(("protocols", name))
        builder = PromptBuilder(each.protocol, where)
        drawn = each.spec.demonstrations
        shown = split == (drawn.split or each.split) and not (drawn.refused and drawn.split is None)
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
        pool = split == task.spec.demonstrations.split
        held.append("no references" + ("" if pool else " (answers hidden)"))
    held += [f"{name}: {len(labels):,} labels" for name, labels in seen.groups.items()]
    return Finding(rule, True, "; ".join(held))


def _decoded(split: str, seen: SplitSurvey) -> Finding:
    listed = list(seen.images.values())
    with Progress(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(printable(f"opening the images of {split}"), total=len(listed))
        errors = broken(listed, lambda done: bar.update(line, completed=done))
    if errors:
        return Finding(
            f"{split}: images open",
            False,
            _list([f"{error.where}: {error.what}" for error in errors], "cannot be used"),
        )
    return Finding(f"{split}: images open", True, f"{len(listed):,} decoded")


def _list(names: list[str], what: str) -> str:
    more = f"\n… and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{len(names):,} {what}:\n" + "\n".join(names[:_SHOWN]) + more
