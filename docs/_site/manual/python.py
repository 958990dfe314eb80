"""The public names of the package, with their signatures and what their docstrings say."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

import emu2eval
import emu2eval.testing
import emu2eval.training
from emu2eval.spec.options import besides, meanings, shown
from emu2eval.statistics import estimates, paired
from emu2eval.statistics.bootstrap import Bootstrap
from manual.text import code, doc, fence, heading, page, prose, sentence, table

TOPICS: Mapping[str, tuple[str, str, str]] = {
    "evaluate": (
        "Evaluating",
        "Ask models, read what was stored, score it again.",
        "evaluate Evaluation Result InMemory load_task Task load_model ModelSpec Changes load_runs "
        "score_again merge Merged",
    ),
    "values": (
        "Values",
        "What flows through an evaluation. All are frozen.",
        "Sample Image Video Segment images Prompt Turn Request Output TextOutput ChoiceOutput "
        "ImageOutput Response "
        "Mark Score Row Shots",
    ),
    "adapters": ("Adapters", "To put requests to a model of your own.", "Adapter Limits Cost"),
    "scorers": (
        "Scorers",
        "To score answers in a way of your own; a plain function `(prediction, references) -> "
        "float` will do as well.",
        "Scorer metric Summary ScoringError JudgedScorer Wording Accumulator ClusteredMean ClusteredRatio",
    ),
    "choosers": (
        "Choosers and encoders",
        "To choose demonstrations, and to see images as vectors.",
        "Chooser Demonstration PoolFeatures Encoder Vectors",
    ),
    "data": (
        "Readers, outputs, settings",
        "To read data, ask for outputs and declare options of your own.",
        "Reader Samples OutputSpec Settings",
    ),
    "watching": ("Watching", "To be told how a run gets on.", "Watcher RunStart RunEnd"),
    "errors": (
        "Errors",
        "What a user can get wrong. Each says what, where, and what to try.",
        "UserError ConfigError UnknownName DataError MissingData ImageError PlanError StoreError "
        "CompareError "
        "ModelError NotFinite MissingExtra PartError Several",
    ),
}
"""Page -> title, what it is for, the public names of `emu2eval` on it."""
OTHERS = {
    "training": (
        "While a model is trained",
        emu2eval.training,
        ("EvaluateHook", "EvaluateCallback"),
    ),
    "testing": (
        "Testing plug-ins",
        emu2eval.testing,
        ("ScriptedModel", "small_task", "squares", "square"),
    ),
}


def pages() -> Iterator[tuple[str, str]]:
    yield "reference/python/index.md", _index()
    for name, (title, about, names) in TOPICS.items():
        found = [(each, getattr(emu2eval, each)) for each in names.split()]
        yield (
            f"reference/python/{name}.md",
            page(
                heading(1, title),
                about,
                *(_entry(f"emu2eval.{each}", part) for each, part in found),
            ),
        )
    for name, (title, module, wanted) in OTHERS.items():
        found = [(each, _of(module, each)) for each in wanted]
        yield (
            f"reference/python/{name}.md",
            page(
                heading(1, title),
                doc(module.__doc__ or ""),
                *(_entry(f"{module.__name__}.{each}", part) for each, part in found),
            ),
        )


@cache
def _of(module: Any, name: str) -> Any:
    """A public name. Of transformers, ten seconds to import, the callback wants a base class alone."""
    if name != "EvaluateCallback" or "transformers" in sys.modules:
        return getattr(module, name)
    stand_in: Any = ModuleType("transformers")
    stand_in.TrainerCallback = type("TrainerCallback", (), {})
    path = Path(module.__file__).with_name("trainer.py")
    spec: Any = importlib.util.spec_from_file_location("emu2eval.training.trainer", path)
    made = importlib.util.module_from_spec(spec)
    sys.modules["transformers"] = stand_in
    try:
        spec.loader.exec_module(made)
    finally:
        del sys.modules["transformers"]
    return getattr(made, name)


def undescribed() -> Iterator[str]:
    """Public names on no page, or without a docstring."""
    placed = {each for _, _, names in TOPICS.values() for each in names.split()}
    public = set(emu2eval.__all__) - {"__version__"}
    yield from (f"emu2eval.{each}: on no page" for each in sorted(public ^ placed))
    for each in sorted(placed & public):
        if not _about(getattr(emu2eval, each)).strip():
            yield f"emu2eval.{each}"


def _index() -> str:
    rows = [
        (f"[`{each}`]({name}.md#emu2eval.{each})", sentence(_about(getattr(emu2eval, each))))
        for name, (_, _, names) in TOPICS.items()
        for each in names.split()
    ]
    rows += [
        (
            f"[`{module.__name__.partition('.')[2]}.{each}`]({name}.md#{module.__name__}.{each})",
            sentence(_about(_of(module, each))),
        )
        for name, (_, module, wanted) in OTHERS.items()
        for each in wanted
    ]
    return page(
        "# Python",
        "Everything that is public: names of `emu2eval`, `emu2eval.training` and "
        "`emu2eval.testing`. Whatever else "
        "a module holds may change. The package is typed (`py.typed`), and importing it imports "
        "nothing heavy.",
        table(("name", ""), rows),
    )


def _about(part: Any) -> str:
    if part is emu2eval.Reader:  # an alias, which has no docstring
        return "Called with the folder of the data and the options of the split, by name or as one Settings."
    return "" if _makes_its_own(part) else inspect.getdoc(part) or ""


def _makes_its_own(part: Any) -> bool:
    """A dataclass without a docstring has one that repeats its signature."""
    return inspect.isclass(part) and (part.__doc__ or "").startswith(f"{part.__name__}(")


def _entry(name: str, part: Any) -> str:
    short = name.rpartition(".")[2]
    blocks = [heading(2, code(short), name)]
    if inspect.ismodule(part):
        blocks += [doc(part.__doc__ or ""), *_functions(part)]
    elif inspect.isclass(part):
        blocks += [
            fence(_signature(part, short), "python"),
            *_words(part, _about(part), [name for name, _, _ in _declared(part)]),
            _fields(part),
            *_methods(part),
        ]
    else:
        signature = _signature(part, short) if callable(part) else f"{short} = {part}"
        blocks += [fence(signature, "python"), *_words(part, _about(part))]
    return page(*blocks).rstrip("\n")


def _words(part: Any, text: str, tabled: Sequence[str] = ()) -> Iterator[str]:
    """A docstring, with what it says of single parameters as a list. tabled: those that have a table."""
    try:
        names = [each for each in inspect.signature(part).parameters if each not in tabled]
    except (TypeError, ValueError):
        names = []
    said = meanings([text], names)
    yield doc(besides(text, [*names, *tabled]))
    yield "\n".join(f"- {code(name)}: {prose(said[name])}" for name in names if name in said)


class _Annotation:
    """A type as it stands in the code, without the quotes of a text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _signature(part: Any, name: str) -> str:
    """As it would be written, one parameter a line where it is long; without `self`."""
    try:
        found = inspect.signature(part)
    except (TypeError, ValueError):
        return name
    given = [
        each.replace(annotation=_unquoted(each.annotation))
        for number, each in enumerate(found.parameters.values())
        if number or each.name not in ("self", "cls")
    ]
    made = inspect.Signature.empty if inspect.isclass(part) else _unquoted(found.return_annotation)
    end = _plain(str(inspect.Signature([], return_annotation=made))).removeprefix("()")
    whole = f"{name}{_plain(str(inspect.Signature(given)))}{end}"
    if len(whole) <= 88:
        return whole
    lines = [_plain(str(inspect.Signature([each])))[1:-1].removeprefix("*, ") for each in given]
    kinds = [each.kind for each in given]
    if inspect.Parameter.VAR_POSITIONAL not in kinds and inspect.Parameter.KEYWORD_ONLY in kinds:
        lines.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f"){end}"


def _unquoted(annotation: Any) -> Any:
    return _Annotation(annotation) if isinstance(annotation, str) else annotation


def _plain(text: str) -> str:
    """Without the modules of types and the addresses of objects."""
    text = re.sub(
        r"\b(?:emu2eval|collections|typing|pathlib|msgspec|numpy|PIL)(?:\.\w+)*\.(?=\w)", "", text
    )
    text = re.sub(r"<(?:factory|function (\w+)[^>]*|[^>]* object at [^>]*)>", "…", text)
    return text.replace("'", '"') if '"' not in text else text


def _fields(part: Any) -> str:
    """The fields of a dataclass or struct, as a table."""
    given = _declared(part)
    said = meanings([_about(part)], [name for name, _, _ in given])
    rows = [
        (code(name), code(_plain(_named(kind))), default, prose(said.get(name, "")))
        for name, kind, default in given
    ]
    return table(("field", "type", "default", ""), rows) if rows else ""


def _declared(part: Any) -> list[tuple[str, Any, str]]:
    """(name, type, default as Markdown) of the fields of a dataclass or struct."""
    if dataclasses.is_dataclass(part):
        found = [(f.name, f.type, f.default) for f in dataclasses.fields(part) if f.init]
    elif isinstance(part, type) and issubclass(part, msgspec.Struct):
        found = [(f.name, f.type, f.default) for f in msgspec.structs.fields(part)]
    else:
        return []
    nothing = (dataclasses.MISSING, msgspec.NODEFAULT)
    return [(n, kind, "" if d in nothing else code(shown(d))) for n, kind, d in found]


def _named(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    return kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)


def _methods(part: type) -> Iterator[str]:
    """Public methods and properties, of the class itself or of what it extends here."""
    for each in part.__mro__:
        if not each.__module__.startswith("emu2eval"):
            break
        for name, member in vars(each).items():
            if name.startswith("_") or getattr(part, name, None) is None:
                continue
            if any(name in vars(nearer) for nearer in part.__mro__[: part.__mro__.index(each)]):
                continue
            inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if isinstance(member, property):
                inner = member.fget
            if not inspect.isfunction(inner):
                continue
            head = name if isinstance(member, property) else _signature(inner, name)
            yield fence(head, "python", "method")
            yield from _words(inner, inner.__doc__ or "")


def _functions(module: Any) -> Iterator[str]:
    for name, part in vars(module).items():
        if (
            not name.startswith("_")
            and inspect.isfunction(part)
            and part.__module__ == module.__name__
        ):
            yield fence(_signature(part, name), "python", "method")
            yield from _words(part, part.__doc__ or "")


def statistics() -> str:
    """What the code says of its own estimates, for the page about statistics."""
    parts = (
        estimates.ClusteredMean,
        estimates.ClusteredRatio,
        estimates.AllOrNothing,
        estimates.Linearized,
        Bootstrap,
        estimates.estimate,
        estimates.interval,
        estimates.kish,
        paired.paired_means,
        paired.sign_flip,
        paired.exact_mcnemar,
        paired.paired_bootstrap,
        paired.paired_influences,
        paired.paired_jackknife,
        paired.holm,
    )
    return page(
        *(
            f"{heading(3, code(part.__name__), part.__name__)}\n\n{doc(part.__doc__ or '')}"
            for part in parts
        )
    )
