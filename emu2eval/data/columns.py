"""The one vocabulary of options that every reader of a user's own data takes: which column is what."""

from __future__ import annotations

from string import Formatter
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from emu2eval.errors import ConfigError
from emu2eval.spec.settings import Count, Settings

_Share = Annotated[float, Meta(gt=0, lt=1)]
Named = list[str] | dict[str, str]
"""Columns, or name: column."""


def named(columns: Named) -> dict[str, str]:
    """As name: column."""
    return dict(columns) if isinstance(columns, dict) else {each: each for each in columns}


def listed(columns: str | list[str] | bool | None) -> list[str]:
    """One column, several or none as a list."""
    if isinstance(columns, str):
        return [columns]
    return columns if isinstance(columns, list) else []


def columns_of(template: str) -> list[str]:
    """The columns that an id is made of: itself, or those in braces."""
    try:
        inside = [name for _, name, _, _ in Formatter().parse(template) if name]
    except ValueError:
        inside = []
    return inside or [template]


class SplitOptions(Settings):
    """Which rows of the files belong to a split; absent = all of them."""

    name: Annotated[str, Meta(description="the split's name here; absent = that in the task")] = ""
    column: Annotated[
        str | None, Meta(description="rows whose cell in this column is the split's name")
    ] = None
    draw: Annotated[
        dict[str, _Share],
        Meta(
            description="shares to draw by split, such as {test: 0.2}. Samples that share an image or a "
            "video, also one under two file names, stand on the same side"
        ),
    ] = field(default_factory=dict)
    rest: Annotated[str, Meta(description="the split that gets what is not drawn")] = "train"
    seed: Annotated[int, Meta(description="of the draw")] = 0
    by: Annotated[
        str | None, Meta(description="a column: rows with one value of it are drawn together, too")
    ] = None
    stratify: Annotated[
        str | None,
        Meta(description="a column: the shares are drawn from the rows of each of its values"),
    ] = None

    def __post_init__(self) -> None:
        if self.column is not None and self.draw:
            raise ConfigError("a split is told by a column or drawn, not both")
        if sum(self.draw.values()) > 1:
            raise ConfigError(f"the shares add up to {sum(self.draw.values()):g}, more than 1")
        if self.rest in self.draw:
            raise ConfigError(f"{self.rest!r} is the rest and cannot be drawn, too")


class RowOptions(Settings):
    """What all readers of rows take. A column is named as the data has it; `a.b` is b inside a (of a list
    that of each item), `a.0` the first of a list."""

    id: Annotated[
        str | Literal[False] | None,
        Meta(
            description="the column of ids, or a text with columns in braces; absent = the column `id`; "
            "false, or where there is none = a digest of what the sample holds"
        ),
    ] = None
    images: Annotated[
        str | list[str] | Literal[False],
        Meta(
            description="columns of images, each one image or a list: paths, bytes, base64 (also data: "
            "URIs) or {bytes, path}; an empty cell is none; false = no images"
        ),
    ] = "image"
    videos: Annotated[
        str | list[str], Meta(description="columns of paths of videos, which come after the images")
    ] = field(default_factory=list)
    frames: Annotated[
        Count, Meta(description="frames of each video, evenly spread, that a model is shown")
    ] = 16
    segment: Annotated[
        tuple[str, str] | None,
        Meta(description="columns of start and end in seconds: only that part of the video"),
    ] = None
    folder: Annotated[
        str,
        Meta(description="the folder below `data.root` in which paths of images and videos start"),
    ] = ""
    fields: Annotated[
        Named | None,
        Meta(
            description="columns that templates may use, or name: column; absent = every column of "
            "texts or numbers"
        ),
    ] = None
    answer: Annotated[
        str | Literal[False] | None,
        Meta(
            description="the column of what a demonstration shows, of a list the most common (ties: the "
            "first); absent = `answer`, or where there is none the most common of the "
            "references; false = hidden"
        ),
    ] = None
    answer_is: Annotated[
        Literal["text", "index", "number", "letter", "image"],
        Meta(
            description="what the cells of answers and references hold: themselves, the place of a "
            "choice from 0 (index) or 1 (number), or its letter; image = the answer's are "
            "images, and those the references unless columns of texts are named"
        ),
    ] = "text"
    answer_as: Annotated[
        Literal["text", "letter"],
        Meta(description="whether answer and references are a choice's text or its letter"),
    ] = "text"
    references: Annotated[
        str | list[str] | Literal[False] | None,
        Meta(
            description="columns of all right answers, each one or a list; absent = the answers; false "
            "= none, which saves memory in a pool"
        ),
    ] = None
    alternatives: Annotated[
        dict[str, str],
        Meta(description="other sets of references that a scorer may ask for, name: column"),
    ] = field(default_factory=dict)
    choices: Annotated[
        str | list[str] | Literal[False] | None,
        Meta(
            description="a column that lists the choices, or a column for each; absent = the names of "
            "the classes where the answer is one; false = none"
        ),
    ] = None
    cluster: Annotated[
        str | Literal[False] | None,
        Meta(
            description="the column whose value samples that are alike share; absent = the first image "
            "or video; false = each sample stands for itself"
        ),
    ] = None
    groups: Annotated[
        Named, Meta(description="columns that sub-scores are shown by, or name: column")
    ] = field(default_factory=list)
    where: Annotated[
        dict[str, Any],
        Meta(description="column: value, or a list of values, for the rows that are read"),
    ] = field(default_factory=dict)
    split: Annotated[
        SplitOptions,
        Meta(description="which of the rows belong to a split: by a column, or drawn with a seed"),
    ] = SplitOptions()


class FileOptions(RowOptions):
    """Rows from some files."""

    files: Annotated[
        str | list[str],
        Meta(description="paths or patterns below `data.root`: data/*.csv, shard-{000..031}.tar"),
    ]


def options_of(given: dict[str, Any], split: str) -> dict[str, Any]:
    """The options of a reader that takes these, told the name of the split."""
    own = given.get("split", {})
    if isinstance(own, dict) and "name" not in own:
        return {**given, "split": {"name": split, **own}}
    return given


def columns_named(options: RowOptions) -> dict[str, str]:
    """Every column that the options name, with the option that names it. Images are not among them."""
    image = options.answer_is == "image"
    found: dict[str, str] = {}

    def add(option: str, *columns: str) -> None:
        found.update((column, option) for column in columns if column not in found)

    if options.id:
        add("id", *columns_of(options.id))
    add("videos", *listed(options.videos))
    add("segment", *(options.segment or ()))
    add("fields", *named(options.fields or []).values())
    if not image:
        add("answer", *listed(options.answer))
    add("references", *listed(options.references))
    add("alternatives", *options.alternatives.values())
    add("choices", *listed(options.choices))
    add("cluster", *listed(options.cluster))
    add("groups", *named(options.groups).values())
    add("where", *options.where)
    for option in ("column", "by", "stratify"):
        add(f"split.{option}", *listed(getattr(options.split, option)))
    return found


def columns_of_images(options: RowOptions) -> list[str]:
    """Those that hold images."""
    found = listed(options.images)
    if options.answer_is == "image":
        found = [*found, *listed(options.answer if options.answer is not None else "answer")]
    return list(dict.fromkeys(found))
