"""The part of a task's file that says where its samples come from."""

from __future__ import annotations

from typing import Any

from msgspec import field

from emu2eval.spec.remote import RemoteFile, Repo
from emu2eval.spec.settings import Count
from emu2eval.spec.yamlfile import Spec

Options = dict[str, Any]


class Download(Spec):
    """A download that a task's data needs; listed if it is missing.

    what: in words; size: as people say it; splits: those that need it (absent = all); note: what else to
    know. source: where people find it; into: the folder below the data root to unpack it in; gives: what
    exists afterwards; files: how many files a folder that it gives then holds. get: what `emu2eval data
    get` brings for it, see `RemoteFile`; without, it has to be fetched by hand, since it wants a form,
    an account or a program of its own.
    """

    what: str
    size: str
    source: str
    into: str
    gives: tuple[str, ...]
    files: Count | None = None
    splits: tuple[str, ...] = ()
    note: str | None = None
    get: tuple[str | RemoteFile, ...] = ()


class Expected(Spec):
    """What the official split contains.

    samples: how many; images: how many different ones.
    """

    samples: Count
    images: int | None = None


class SourceSpec(Spec):
    """A repository on the hub that contains the same samples as the official files, for some splits.

    repo: `org/name`; revision: a branch, tag or commit; size: as people say it; note: what else to know.
    It lies below the data root in `folder`, as `hf download REPO --repo-type dataset` leaves it.
    reader, options, splits: as for the official files, from that folder; `files` and `images` among
    the options, and those of `join`, are patterns of the files that a split needs. refused: splits that
    the repository does not contain faithfully, with the reason.
    """

    repo: Repo
    revision: str = "main"
    size: str = ""
    note: str | None = None
    reader: str = "parquet"
    options: Options = field(default_factory=dict)
    splits: dict[str, Options] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Relative to the data root."""
        return f"hub/{self.repo}"

    def files(self, split: str) -> list[str]:
        """Every pattern of files that the split needs."""
        found: list[str] = []
        options = {**self.options, **self.splits[split]}
        for files in (options, options.get("join") or {}):
            for key in ("files", "images"):
                patterns = files.get(key) or []
                found += [patterns] if isinstance(patterns, str) else patterns
        return found


class DataSpec(Spec):
    """Where samples come from.

    reader: a built-in one, an entry point or `module:attr`; if it has a parameter `shots`, it receives
    their number. downloads: what needs to be downloaded for it. options: what it takes, for all splits
    (docs/how-to/own-data.md); splits: its options for each. root: absent = the data root
    ($EMU2EVAL_DATA), else a folder relative to this YAML file. expected: the official sizes of the
    splits. sources: other places that hold the same samples, by name, such as `hub`.
    """

    reader: str
    root: str | None = None
    options: Options = field(default_factory=dict)
    splits: dict[str, Options]
    expected: dict[str, Expected] = field(default_factory=dict)
    downloads: tuple[Download, ...] = ()
    sources: dict[str, SourceSpec] = field(default_factory=dict)
