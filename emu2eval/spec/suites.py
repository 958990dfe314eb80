"""Suites: one name for many tasks, each with its own shots where it has them; lists and patterns of names."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec

from emu2eval.errors import UnknownName
from emu2eval.spec import catalog
from emu2eval.spec.yamlfile import Document, Spec, read_yaml, validate


class SuiteEntry(Spec):
    """A task of a suite. Absent values come from the suite, or otherwise the task file.

    task: by name or path; shots: numbers of demonstrations, or "0*"; split, protocol: of the task.
    set: assignments as --set takes them, such as `task.score.options.variant=vizwiz`.
    """

    task: str
    shots: tuple[int | str, ...] | None = None
    split: str | None = None
    protocol: str | None = None
    set: tuple[str, ...] = ()


class SuiteSpec(Spec):
    """A file of `tasks/suites`, or your own.

    tasks: names, paths or entries. shots, split, protocol: for all entries without their own.
    """

    name: str
    title: str
    about: str = ""
    source: str = ""
    shots: tuple[int | str, ...] | None = None
    split: str | None = None
    protocol: str | None = None
    tasks: Annotated[tuple[str | SuiteEntry, ...], msgspec.Meta(min_length=1)]

    @property
    def entries(self) -> tuple[SuiteEntry, ...]:
        """Each with what the suite says of all."""
        found = (
            each if isinstance(each, SuiteEntry) else SuiteEntry(task=each) for each in self.tasks
        )
        return tuple(
            msgspec.structs.replace(
                each,
                shots=self.shots if each.shots is None else each.shots,
                split=each.split or self.split,
                protocol=each.protocol or self.protocol,
            )
            for each in found
        )


def load_suite(name: str) -> SuiteSpec:
    """A suite by name or by the path of its file. Raises UnknownName or ConfigError."""
    return _suite(read_yaml(catalog.find_file("suite", name)))


def entries(given: Iterable[str]) -> Iterator[SuiteEntry]:
    """What the names of tasks and suites, lists and patterns of them stand for, in their order.

    A task of a suite that has a path is found beside the suite's file. Raises UnknownName or ConfigError.
    """
    for name in (each for text in given for each in listed("task", text)):
        document = _document(name)
        if document is None:
            yield SuiteEntry(task=name)
            continue
        for entry in _suite(document).entries:
            beside = document.path.parent / entry.task
            if catalog.is_path(entry.task) and beside.exists():
                entry = msgspec.structs.replace(entry, task=str(beside))
            yield entry


def listed(kind: str, text: str) -> list[str]:
    """The names in a list with commas, each pattern replaced by what fits it; kind: "task" or "model".

    A path that exists is itself, whatever characters are in it. Raises UnknownName where nothing fits.

    >>> listed("task", "gqa,refcoco*")
    ['gqa', 'refcoco', 'refcoco_plus', 'refcocog']
    """
    if Path(text).exists() or not text.strip(", "):
        return [text]
    found = [
        name
        for part in map(str.strip, text.split(","))
        if part
        for name in (_fitting(kind, part) if set(part) & set("*?[") else [part])
    ]
    return list(dict.fromkeys(found))


def _fitting(kind: str, pattern: str) -> list[str]:
    if catalog.is_path(pattern):
        known: list[str] = []
        found = sorted(glob.glob(pattern))  # noqa: PTH207  (takes absolute patterns, too)
    else:
        known = list(catalog.names(kind))
        found = [name for name in known if fnmatchcase(name, pattern)]
    if not found:
        raise UnknownName(
            f"{kind}: nothing matches the pattern",
            pattern,
            known,
            hint=f"for the names: emu2eval ls {kind}s" if known else None,
        )
    return found


def _suite(document: Document) -> SuiteSpec:
    return validate(SuiteSpec, document.data, document)


def _document(name: str) -> Document | None:
    """The file of a suite; None where the name is that of a task, or of nothing."""
    if not catalog.is_path(name):
        shipped = catalog.names("suite")
        if name in shipped and name not in catalog.names("task"):
            return read_yaml(shipped[name])
        return None
    path = Path(name)
    if not path.is_file():
        return None
    document = read_yaml(path)
    return document if "tasks" in document.data and "data" not in document.data else None
