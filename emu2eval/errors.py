"""The errors a user can cause. Each says what is wrong, where, and what to try; none needs a traceback.

UserError
├── ConfigError        a YAML file or an option
│   └── UnknownName    a task, model, split, scorer, key … that does not exist
├── DataError          a data file or a row in it
│   ├── MissingData    files of a benchmark that are not there
│   └── ImageError     an image that cannot be used
├── PlanError          a request that the model cannot take; raised before any is made
├── StoreError         the results folder
│   └── CompareError   runs that cannot be compared
├── ModelError         weights or a server
│   ├── ModelGone      what ran the model has ended, and can be started again
│   └── NotFinite      model outputs that are NaN or infinite
├── MissingExtra       an optional dependency that is not installed
├── PartError          a plug-in that raised an error of its own
└── Several            several of these, reported together
"""

from __future__ import annotations

import difflib
import re
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

_HERE = Path(__file__).parent
_PYTHON = Path(sysconfig.get_path("stdlib"))
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters written out: somebody else's could take hold of the terminal.

    >>> printable("a \\x1b[31mred\\nline")
    'a \\\\x1b[31mred\\nline'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def shown(value: object) -> str:
    """A value as a file or --set would have it, for people; a text in quotes.

    >>> shown(None), shown(True), shown(["a", 1]), shown({"k": None}), shown("it's")
    ('null', 'true', '[a, 1]', '{k: null}', "'it's'")
    """
    return f"'{value}'" if isinstance(value, str) else _inner(value)


def _inner(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_inner(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(map(_inner, value)) + "]"
    return str(value)


class UserError(Exception):
    """what: one sentence; where: a file, `file:line` or option; hint: what to try next."""

    def __init__(self, what: str, *, where: str | Path | None = None, hint: str | None = None):
        self.what = what
        self.where = str(where) if where is not None else None
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f"\n  where: {self.where}"
        if self.hint:
            text += f"\n  try:   {self.hint}"
        return text

    @property
    def parts(self) -> tuple[UserError, ...]:
        """Itself, or each of what it puts together."""
        return (self,)

    def __reduce__(self) -> tuple[object, ...]:
        # Keeps what, where and hint when a worker process hands the error over.
        return (_rebuild, (type(self), self.__dict__.copy(), self.what))


def _rebuild(cls: type[UserError], state: dict[str, object], what: str) -> UserError:
    error = cls.__new__(cls)
    Exception.__init__(error, what)
    error.__dict__.update(state)
    return error


class ConfigError(UserError):
    """A YAML file or an option is not usable."""


class UnknownName(ConfigError):
    """A name that does not exist; suggests similar names that do.

    of: what has the names, such as the task whose protocol is asked for.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
        *,
        of: str | None = None,
        where: str | Path | None = None,
        hint: str | None = None,
    ):
        options = sorted(known)
        near = [option for option in options if len(name) > 2 and option.startswith(name)][:3]
        near = near or difflib.get_close_matches(name, options, n=3, cutoff=0.5)
        if near:
            guess = "did you mean " + " or ".join(repr(n) for n in near) + "?"
        elif options:
            shown = ", ".join(options[:12]) + (", …" if len(options) > 12 else "")
            guess = f"available: {shown}"
        else:
            guess = "none are available"
        fault = f"unknown {kind} {name!r}" if of is None else f"{of} has no {kind} {name!r}"
        super().__init__(
            f"{fault}; {guess}",
            where=where,
            hint=hint,
        )


class DataError(UserError):
    """A data file, or a row in it, cannot be used."""


class MissingData(DataError):
    """Files of a benchmark are missing; says which, how large, where they come from and where to put
    them.

    task, splits, source: what `emu2eval data get` takes to bring them; task None = it cannot.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        hint: str | None = None,
        task: str | None = None,
        splits: Iterable[str] = (),
        source: str | None = None,
    ):
        self.task = task
        self.splits = tuple(splits)
        self.source = source
        super().__init__(what, where=where, hint=hint)


class ImageError(DataError):
    """An image is missing, empty, truncated, too large or not an image at all."""


class PlanError(UserError):
    """A request that the model cannot take. Raised while planning, before any request is made."""


class StoreError(UserError):
    """The results folder cannot be read or written."""


class CompareError(StoreError):
    """Runs that cannot be compared meaningfully, such as two on different data."""


class ModelError(UserError):
    """Weights that cannot be loaded, or a server that cannot be used."""


class DoesNotFit(ModelError):
    """A model that is too large for the memory that it is given; the hint says what would fit."""


class ModelGone(ModelError):
    """What ran the model has ended in the middle. Requests under way may be asked again of another."""


class NotFinite(ModelError):
    """A model's outputs are NaN or infinite. Only the affected requests fail."""


class MissingExtra(UserError):
    """An optional dependency is needed; names the command that installs it.

    hint: where that is another one than that of its extra.
    """

    def __init__(self, package: str, extra: str, *, why: str, hint: str | None = None):
        super().__init__(
            f"{why} needs the package {package!r}, which is not installed",
            hint=hint or f"pip install 'emu2eval[{extra}]'",
        )

    @classmethod
    def of(cls, packages: Iterable[str], extra: str, *, why: str) -> list[UserError]:
        """One for the first of the packages that is not installed; looked up without importing any."""
        lacking = next((name for name in packages if find_spec(name) is None), None)
        return [] if lacking is None else [cls(lacking, extra, why=why)]


EXTRAS = {
    "hf": ("torch", "transformers", "accelerate", "huggingface_hub", "tokenizers", "num2words"),
    "vision": ("torchvision", "timm"),
    "emu2": ("sentencepiece", "diffusers"),
    "lora": ("peft",),
    "quantize": ("bitsandbytes",),
    "captions": ("pycocoevalcap", "nltk"),
    "images": ("torchmetrics",),
    "api": ("h11", "certifi"),
    "ray": ("ray",),
    "tensorboard": ("tensorboardX",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "plots": ("matplotlib",),
    "data": ("pyarrow", "pandas"),
    "video": ("av",),
}
"""The optional packages by the extra of emu2eval that brings them, each under the smallest one."""


def lacking(error: ModuleNotFoundError, why: str) -> MissingExtra | None:
    """The import error of a package that an extra brings, as one that names the extra; None for any other."""
    package = (error.name or "").partition(".")[0]
    extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
    return None if extra is None else MissingExtra(package, extra, why=why)


class Several(UserError):
    """Several things are wrong; each is reported with its own hint."""

    def __init__(self, parts: Iterable[UserError]):
        self._parts = tuple(parts)
        shown = [str(part).replace("\n", "\n  ") for part in self._parts]
        super().__init__("\n- ".join([f"{len(shown)} problems", *shown]))

    @property
    def parts(self) -> tuple[UserError, ...]:
        return self._parts


def raise_together(errors: Iterable[UserError]) -> None:
    """Raises the only one of the errors, or `Several` with all; nothing where there are none.

    What two of them say in the same words is told once.
    """
    found = {str(part): part for error in errors for part in error.parts}
    if len(found) > 1:
        raise Several(found.values())
    for only in found.values():
        raise only


def together(checks: Iterable[Callable[[], object]]) -> None:
    """Makes every check; then `raise_together` of what they raised."""
    found: list[UserError] = []
    for check in checks:
        try:
            check()
        except UserError as error:
            found.append(error)
    raise_together(found)


class PartError(UserError):
    """A user's own part, such as a scorer, raised an error; the traceback is in a file.

    kind: of the part, such as "scorer"; name: as a task or model file has it. The cause is what it raised.
    """

    def __init__(self, kind: str, name: str, error: Exception, hint: str):
        self.traceback = "".join(traceback.format_exception(error))
        text = " ".join(str(error).split())[:300]
        kept = _written(self.traceback)
        super().__init__(
            printable(f"the {kind} {name!r} failed: {type(error).__name__}: {text}").rstrip(": "),
            where=origin(error),
            hint=f"{hint}; "
            + (f"the traceback is in {kept}" if kept else "--debug shows the traceback"),
        )


def origin(error: BaseException) -> str | None:
    """`file:line` of the last place in a plug-in that an error came through: not ours, nor Python's own.

    One in somebody's checkout comes before one in an installed package.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not Path(frame.filename).is_relative_to(_HERE)
    ]
    installed = [frame for frame in frames if "site-packages" in frame.filename]
    own = [
        frame
        for frame in frames
        if frame not in installed and not Path(frame.filename).is_relative_to(_PYTHON)
    ]
    found = own or installed
    return f"{found[-1].filename}:{found[-1].lineno}" if found else None


def _written(text: str) -> str | None:
    """The path of a new file that holds the text; None where none can be written."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="emu2eval-", suffix=".txt", delete=False
        ) as file:
            file.write(text)
        return file.name
    except OSError:
        return None


class of_part:
    """What is raised inside, other than a UserError, becomes a PartError that names the part.

    >>> with of_part("scorer", "mine"):
    ...     [][0]
    Traceback (most recent call last):
    emu2eval.errors.PartError: the scorer 'mine' failed: IndexError: list index out of range...
    """

    __slots__ = ("_hint", "_kind", "_name")

    def __init__(self, kind: str, name: str, hint: str = "fix it, or ask its author"):
        self._kind = kind
        self._name = name
        self._hint = hint

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, UserError):
            return
        missing = None
        if isinstance(error, ModuleNotFoundError):
            missing = lacking(error, f"the {self._kind} {self._name!r}")
        raise missing or PartError(self._kind, self._name, error, self._hint) from error
