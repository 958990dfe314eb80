"""The reader of tables in text files: .csv, .tsv, .jsonl, .json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from emu2eval.data.columns import FileOptions
from emu2eval.data.own import samples
from emu2eval.data.rows import DataRow
from emu2eval.data.shards import shards
from emu2eval.data.textrows import rows
from emu2eval.types import Sample


class TableOptions(FileOptions):
    """Tables in text files. In a .csv or .tsv file `|` stands between several references or choices."""

    rows: Annotated[
        str | None,
        Meta(
            description="in a .json file, the key of the list of rows (`a.b` for a nested one); "
            "absent = the file is the list, or an object that contains one list"
        ),
    ] = None


def read(root: Path, options: TableOptions) -> Iterator[Sample]:
    """Rows of .csv, .tsv, .jsonl (.ndjson) and .json files as samples; every option names a column."""
    return samples(_Tables(root, options), options, root)


@dataclass(frozen=True)
class _Tables:
    root: Path
    options: TableOptions

    def rows(self) -> Iterator[DataRow]:
        for path in shards(self.root, self.options.files):
            yield from rows(path, self.options.rows)

    def classes(self, column: str) -> Sequence[str]:
        return ()
