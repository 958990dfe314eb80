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
    """Which rows of the files belong to a split; absent = all rows."""

    name: Annotated[
        str, Meta(description="the split's name in the data; absent = the name in the task")
    ] = ""
    column: Annotated[
        str | None, Meta(description="select rows by this column, which contains the split's name")
    ] = None
    draw: Annotated[
        dict[str, _Share],
        Meta(
            description="shares to draw for splits, such as {test: 0.2}. Samples that share an image or a "
            "video (even under two file names) end up in the same split"
        ),
    ] = field(default_factory=dict)
    rest: Annotated[str, Meta(description="the split that gets the remaining samples")] = "train"
    seed: Annotated[int, Meta(description="seed of the draw")] = 0
    by: Annotated[
        str | None, Meta(description="a column: rows with the same value are also kept together")
    ] = None
    stratify: Annotated[
        str | None,
        Meta(description="a column: the shares are drawn separately for each of its values"),
    ] = None

    def __post_init__(self) -> None:
        if self.column is not None and self.draw:
            raise ConfigError("a split is either selected by a column or drawn, not both")
        if sum(self.draw.values()) > 1:
            raise ConfigError(f"the shares add up to {sum(self.draw.values()):g}, more than 1")
        if self.rest in self.draw:
            raise ConfigError(f"{self.rest!r} gets the rest, so it cannot be drawn as well")


class RowOptions(Settings):
    """Options of all readers of rows. Columns are named as in the data; `a.b` is b inside a (of a list
    that of each item), `a.0` the first of a list."""

    id: Annotated[
        str | Literal[False] | None,
        Meta(
            description="the column of ids, or a text with columns in braces; absent = the column `id`; "
            "false, or if there is none = a digest of the sample's content"
        ),
    ] = None
    images: Annotated[
        str | list[str] | Literal[False],
        Meta(
            description="columns of images, each one image or a list: paths, bytes, base64 (also data: "
            "URIs) or {bytes, path}; an empty cell means no image; false = no images"
        ),
    ] = "image"
    videos: Annotated[
        str | list[str], Meta(description="columns of video paths; videos follow the images")
    ] = field(default_factory=list)
    frames: Annotated[
        Count, Meta(description="frames per video, evenly spaced, to show the model")
    ] = 16
    segment: Annotated[
        tuple[str, str] | None,
        Meta(
            description="columns with start and end in seconds, to use only that part of the video"
        ),
    ] = None
    folder: Annotated[
        str,
        Meta(
            description="the folder below `data.root` that paths of images and videos are relative to"
        ),
    ] = ""
    fields: Annotated[
        Named | None,
        Meta(
            description="columns for use in templates, or name: column; absent = every column of "
            "texts or numbers"
        ),
    ] = None
    answer: Annotated[
        str | Literal[False] | None,
        Meta(
            description="the column with the answer that a demonstration shows (of a list, the most common; "
            "ties: the first); absent = `answer`, or if there is none the most common "
            "reference; false = hidden"
        ),
    ] = None
    answer_is: Annotated[
        Literal["text", "index", "number", "letter", "image"],
        Meta(
            description="what the cells of answers and references contain: the text itself, the "
            "position of a "
            "choice from 0 (index) or 1 (number), or its letter; image = answers are images, which "
            "are also the references unless text columns are named"
        ),
    ] = "text"
    answer_as: Annotated[
        Literal["text", "letter"],
        Meta(description="whether answers and references use a choice's text or its letter"),
    ] = "text"
    references: Annotated[
        str | list[str] | Literal[False] | None,
        Meta(
            description="columns of all correct answers, each one or a list; absent = the answers; false "
            "= none, which saves memory in a pool"
        ),
    ] = None
    alternatives: Annotated[
        dict[str, str],
        Meta(description="further sets of references for scorers, name: column"),
    ] = field(default_factory=dict)
    choices: Annotated[
        str | list[str] | Literal[False] | None,
        Meta(
            description="a column that lists the choices, or one column per choice; absent = the "
            "class names, "
            "if the answer is a class; false = none"
        ),
    ] = None
    cluster: Annotated[
        str | Literal[False] | None,
        Meta(
            description="the column whose value is shared by dependent samples; absent = the first image "
            "or video; false = all samples are independent"
        ),
    ] = None
    groups: Annotated[
        Named, Meta(description="columns to show sub-scores for, or name: column")
    ] = field(default_factory=list)
    where: Annotated[
        dict[str, Any],
        Meta(
            description="read only rows with these values, as column: value or column: list of values"
        ),
    ] = field(default_factory=dict)
    split: Annotated[
        SplitOptions,
        Meta(
            description="which rows belong to a split: selected by a column, or drawn with a seed"
        ),
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
