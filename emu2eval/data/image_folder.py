"""A folder of images, a folder a class: each image is a sample whose answer is the name of its folder."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from emu2eval.data.columns import RowOptions, SplitOptions
from emu2eval.data.own import samples
from emu2eval.data.paths import inside
from emu2eval.data.rows import DataRow
from emu2eval.data.textrows import rows as text_rows
from emu2eval.errors import DataError, MissingData
from emu2eval.media import suffixes
from emu2eval.types import Image, Sample

_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What folders of splits are called, in any case."""

_TABLES = ("metadata.csv", "metadata.jsonl")
_DRAWN = SplitOptions(draw={"test": 0.5}, stratify="answer")
"""Where the folder has no splits and nothing says how to make them."""


class ImageFolderOptions(RowOptions):
    """Of `read`."""

    classes: Annotated[
        dict[str, str],
        Meta(
            description="display names for classes, as folder: name; others keep their folder's name"
        ),
    ] = field(default_factory=dict)


def read(root: Path, options: ImageFolderOptions) -> Iterator[Sample]:
    """Images of class folders as samples; the choices are the names of all classes, of every split.

    Files: CLASS/*.jpg, or SPLIT/CLASS/*.jpg (train, val, test and their other names). The columns are `id`
    (the path below that folder), `image`, `answer` (the class), `file`, and those of a metadata.csv or
    metadata.jsonl with a column `file_name`. Without folders of splits, half of the images of each class are
    drawn for `test`, the others are `train`; `split` says it otherwise, and `folder` names a split's folder
    that is called something else.
    """
    layout = ClassFolders(root, options)
    return samples(layout, layout.settled, root)


@dataclass(frozen=True)
class ClassFolders:
    """What is where below the root."""

    root: Path
    options: ImageFolderOptions

    @cached_property
    def settled(self) -> ImageFolderOptions:
        """The options, with the draw that holds where nothing else tells the splits."""
        own = self.options.split
        if self.options.folder or own.column is not None or own.draw or self.splits:
            return self.options
        drawn = msgspec.structs.replace(_DRAWN, name=own.name, seed=own.seed, by=own.by)
        return msgspec.structs.replace(self.options, split=drawn)

    @cached_property
    def splits(self) -> Mapping[str, str]:
        """Split -> its folder, for each that there is."""
        there = {unicodedata.normalize("NFC", each).lower(): each for each in _folders(self.root)}
        found = {}
        for split, names in _SPLITS.items():
            folder = next((there[name] for name in names if name in there), None)
            if folder is not None:
                found[split] = folder
        return found

    @cached_property
    def top(self) -> Path:
        """The folder of the split. Raises MissingData."""
        options = self.settled
        if options.folder:
            top = inside(self.root, options.folder, where="folder")
        elif options.split.column is not None or options.split.draw or not self.splits:
            top = self.root
        else:
            name = next((s for s, names in _SPLITS.items() if options.split.name in names), None)
            folder = self.splits.get(name or "", options.split.name)
            top = inside(self.root, folder, where="split")
            if not top.is_dir():
                raise MissingData(
                    f"there is no folder for the split {options.split.name}, only for "
                    f"{' and '.join(self.splits)}",
                    where=self.root,
                    hint=f"in the task: `split: {list(self.splits)[-1]}`, and under `data`: `splits: "
                    f"{{{', '.join(f'{name}: {{}}' for name in self.splits)}}}`; or name the folder: "
                    f"`splits: {{{options.split.name}: {{folder: NAME}}}}`",
                )
        if not top.is_dir():
            raise MissingData("the folder does not exist", where=top)
        return top

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Folder -> the name of its class, of every class in any split. Raises DataError for two alike."""
        tops = [self.root / folder for folder in self.splits.values()]
        tops = tops if self.top in tops else [self.top]
        found: dict[str, str] = {}
        for top in tops:
            for folder in _folders(top):
                if folder not in found and next(_images(top / folder), None) is not None:
                    own = unicodedata.normalize("NFC", folder)
                    found[folder] = self.options.classes.get(
                        folder, self.options.classes.get(own, own)
                    )
        alike: dict[str, str] = {}
        renamed = self.options.classes
        for folder, name in sorted(found.items()):
            other = alike.setdefault(" ".join(name.casefold().split()), folder)
            meant = found[other] == name and (folder in renamed or other in renamed)
            if other != folder and not meant:
                raise DataError(
                    f"two class names differ only in case, spaces or accents: {found[other]!r} and "
                    f"{name!r}",
                    where=self.root,
                    hint="rename one, or give it another name in the options with `classes: {FOLDER: NAME}`",
                )
        return found

    def classes(self, column: str) -> Sequence[str]:
        return tuple(sorted(set(self.names.values()))) if column == "answer" else ()

    def rows(self) -> Iterator[DataRow]:
        top = self.top
        told = self._told(top)
        found = False
        for path in _images(top):
            relative = unicodedata.normalize("NFC", path.removeprefix(f"{top}/"))
            folder, inner, _ = path.removeprefix(f"{top}/").partition("/")
            cells: dict[str, Any] = dict(told.pop(relative, {}))
            if inner:
                cells.setdefault("answer", self.names.get(folder, folder))
            elif "answer" not in cells and self._needs_class:
                raise DataError(
                    "the image is not in a class folder",
                    where=path,
                    hint="take its answer from a column of metadata.csv with `answer: COLUMN`, or "
                    "set `answer: "
                    "false` if it has none",
                )
            found = True
            cells |= {"id": cells.get("id", relative), "image": Image(path), "file": relative}
            yield DataRow(path, cells)
        if not found:
            raise MissingData(
                "the folder contains no images",
                where=top,
                hint="expected .jpg, .png, .webp or similar files, in one folder per class",
            )
        if told:
            raise DataError(
                f"{len(told):,} images listed in the metadata are missing, such as {next(iter(told))!r}",
                where=top,
            )

    @property
    def _needs_class(self) -> bool:
        return self.options.answer in (None, "answer") and not self.options.references

    def _told(self, top: Path) -> dict[str, Mapping[str, Any]]:
        """Path of an image -> what metadata say of it."""
        path = next((top / name for name in _TABLES if (top / name).is_file()), None)
        if path is None:
            return {}
        found: dict[str, Mapping[str, Any]] = {}
        for row in text_rows(path):
            name = unicodedata.normalize("NFC", row.text("file_name", "metadata"))
            inside(top, name, where=row.where)
            if name in found:
                raise DataError(f"the image {name!r} appears twice", where=row.where)
            found[name] = {
                str(k): v for k, v in row.cells.items() if k not in ("file_name", "image")
            }
        return found


def _folders(top: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones and what systems leave are passed over."""
    try:
        with os.scandir(top) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not _ours_not(e.name))
    except OSError as error:
        raise MissingData(
            f"cannot read the image folder ({error.strerror})",
            where=top,
            hint="it is set by `data.root` in the task file, relative to that file",
        ) from None


def _images(top: Path) -> Iterator[str]:
    """The paths of all images below a folder, sorted. Links are followed, and each folder read once."""
    seen: set[tuple[int, int]] = set()
    waiting = [str(top)]
    while waiting:
        folder = waiting.pop()
        try:
            stat = os.stat(folder)  # noqa: PTH116
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"the folder cannot be read ({error.strerror})", where=folder) from None
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        inner = []
        for entry in listed:
            if _ours_not(entry.name):
                continue
            if suffixes.of(entry.name) in suffixes.IMAGES and not entry.is_dir():
                yield entry.path
            elif entry.is_dir():
                inner.append(entry.path)
        waiting += reversed(inner)


def _ours_not(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name == "lost+found"
