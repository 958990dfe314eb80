"""Every part that a task or model file can name: what it is, its options, and an example of its use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
import yaml

from emu2eval import registry
from emu2eval.errors import UnknownName, UserError
from emu2eval.scorers.judged import JudgedScorer
from emu2eval.spec import catalog
from emu2eval.spec.options import Option, docs_of, options_of, parameters
from emu2eval.spec.yamlfile import read_yaml

GIVEN = {"chooser": 2, "cleaner": 1, "reader": 1}
"""Leading arguments that the harness fills in, by kind."""


KINDS: tuple[str, ...] = (
    *("readers", "choosers", "encoders", "outputs", "cleaners", "scorers", "judges"),
    *("adapters", "protocols", "submissions", "exports"),
)
"""Of parts, as people name them, in the order in which an evaluation needs them."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """about: one line; text: all that its docstring says. lacks: why it cannot be looked at here. used_by:
    shipped tasks or models that name it; example: as a YAML file has it."""

    kind: str
    name: str
    where: str
    about: str = ""
    text: str = ""
    lacks: str = ""
    options: tuple[Option, ...] = ()
    used_by: tuple[str, ...] = ()
    example: str = ""


def parts(kinds: str, *, uses: bool = False) -> list[Part]:
    """Every part of one of KINDS: built in, and those of installed packages. uses: looks through the shipped
    files for those that name it, and for an example."""
    made = {"judges": _judges, "protocols": _protocols, "exports": _exports}.get(kinds)
    if made is not None:
        return made(uses)
    kind = kinds.removesuffix("s")
    return [_part(kind, name, uses) for name in registry.known(kind)]


def part(kinds: str, name: str) -> Part:
    """One part. Raises UnknownName."""
    known = {each.name: each for each in parts(kinds, uses=True)}
    if name not in known:
        raise UnknownName(kinds.removesuffix("s"), name, known, hint=f"emu2eval ls {kinds}")
    return known[name]


def _judges(uses: bool) -> list[Part]:
    """The scorers that ask a judge. Who judges is any model: --judge NAME."""
    found = []
    for name in registry.known("scorer"):
        try:
            factory = registry.find("scorer", name)
        except UserError:
            continue
        if inspect.isclass(factory) and issubclass(factory, JudgedScorer):
            found.append(msgspec.structs.replace(_part("scorer", name, uses), kind="judge"))
    return found


def _protocols(uses: bool) -> list[Part]:
    """Every protocol of the shipped tasks, by its name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for task, data in _files("task").items():
        for name, protocol in data["protocols"].items():
            found.setdefault(name, []).append((task, protocol.get("about", "")))
    return [
        Part(
            kind="protocol",
            name=name,
            where="",
            about=next((about for _, about in uses if about), f"of {len(uses)} tasks"),
            text="\n".join(f"{task}: {about}" for task, about in uses if about),
            used_by=tuple(task for task, _ in uses),
            example=f"emu2eval run --task {uses[0][0]} --protocol {name} --model …",
        )
        for name, uses in sorted(found.items())
    ]


def _exports(uses: bool) -> list[Part]:
    from emu2eval.exports import lm_eval, trackers

    docs = {**{name: made.__doc__ for name, made in trackers.FORMATS.items()}}
    docs["lm-eval"] = lm_eval.__doc__
    found = []
    for name, doc in sorted(docs.items()):
        text = inspect.cleandoc(doc or "")
        example = f"emu2eval export --format {name} --file …"
        found.append(
            Part(kind="export", name=name, where="", about=_line(text), text=text, example=example)
        )
    return found


def _part(kind: str, name: str, uses: bool) -> Part:
    used = list(_uses(kind, name)) if uses else []
    example = used[0][1] if used else _made_up(kind, name)
    facts: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "where": registry.known(kind)[name],
        "used_by": tuple(dict.fromkeys(file for file, _ in used)),
        "example": example,
    }
    try:
        factory = registry.find(kind, name)
    except UserError as error:
        return Part(**facts, lacks=error.hint or error.what)
    text = inspect.cleandoc(getattr(factory, "__doc__", None) or "")
    return Part(**facts, about=_line(text), text=text, options=tuple(_options(kind, factory)))


def _line(text: str) -> str:
    """The first sentence of a docstring, or its first paragraph where that is short."""
    return " ".join(text.partition("\n\n")[0].split())


def _options(kind: str, factory: Any) -> Iterator[Option]:
    if not callable(factory):
        return
    if inspect.isclass(factory) and issubclass(factory, msgspec.Struct):
        fields = [each for each in msgspec.structs.fields(factory) if each.encode_name != "kind"]
        yield from options_of(fields, [*docs_of(factory), *_made(factory)], {})
        return
    given = GIVEN.get(kind, 0)
    own = registry.own_settings(factory, given)
    docs = docs_of(factory) if inspect.isclass(factory) else [inspect.getdoc(factory) or ""]
    fields = [each for each in registry.declared(factory, given) if each.name != "shots"]
    if own is not None:
        docs = [*docs_of(own), *docs]
    yield from options_of(fields, docs, {} if own is not None else parameters(factory))


def _made(spec: Any) -> list[str]:
    """What the class of an output says, whose spec has the same keys."""
    makes = getattr(spec, "makes", None)
    return docs_of(makes) if makes is not None else []


# -- where they are used --------------------------------------------------------------------------


@cache
def _files(kind: str) -> Mapping[str, dict[str, Any]]:
    return {name: read_yaml(path).data for name, path in catalog.names(kind).items()}


def _uses(kind: str, name: str) -> Iterator[tuple[str, str]]:
    """(shipped file, the piece of it that names the part)."""
    if kind == "adapter":
        for model, data in _files("model").items():
            if data["adapter"] == name:
                yield model, _yaml({k: data[k] for k in ("adapter", "settings") if k in data})
        return
    for task, data in _files("task").items():
        for found, shown in _PIECES[kind](data) if kind in _PIECES else ():
            if found == name:
                yield task, _yaml(shown)


Piece = tuple[str, dict[str, Any]]


def _layers(data: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    own = data.get(key, {})
    yield own
    for protocol in data["protocols"].values():
        if key in protocol:
            yield {**own, **protocol[key]}


def _readers(data: Mapping[str, Any]) -> Iterator[Piece]:
    given = data["data"]
    kept = {k: given[k] for k in ("reader", "root", "options", "splits") if k in given}
    yield given["reader"], {"data": kept}
    for source in given.get("sources", {}).values():
        yield source.get("reader", "parquet"), {"data": {"sources": {"hub": source}}}


def _choosers(data: Mapping[str, Any]) -> Iterator[Piece]:
    for each in _layers(data, "demonstrations"):
        if each:
            yield each.get("chooser", "random"), {"demonstrations": each}


def _scorers(data: Mapping[str, Any]) -> Iterator[Piece]:
    for each in _layers(data, "score"):
        yield each["scorer"], {"score": each}


def _cleaners(data: Mapping[str, Any]) -> Iterator[Piece]:
    for each in _layers(data, "score"):
        for step in each.get("clean", ()):
            yield step, {"score": {"scorer": each["scorer"], "clean": each["clean"]}}


def _outputs(data: Mapping[str, Any]) -> Iterator[Piece]:
    for each in _layers(data, "output"):
        yield each.get("kind", "text"), {"output": each}


def _submissions(data: Mapping[str, Any]) -> Iterator[Piece]:
    if "submission" in data:
        yield data["submission"]["format"], {"submission": data["submission"]}


_PIECES: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Piece]]] = {
    "chooser": _choosers,
    "cleaner": _cleaners,
    "output": _outputs,
    "reader": _readers,
    "scorer": _scorers,
    "submission": _submissions,
}


def _made_up(kind: str, name: str) -> str:
    """The shortest use, of a part that no shipped file names."""
    made: dict[str, dict[str, Any]] = {
        "adapter": {"name": "mine", "adapter": name},
        "chooser": {"demonstrations": {"chooser": name}},
        "cleaner": {"score": {"scorer": "exact_match", "clean": [name]}},
        "encoder": {"demonstrations": {"chooser": "rices", "options": {"encoder": name}}},
        "output": {"output": {"kind": name}},
        "reader": {"data": {"reader": name, "options": {}, "splits": {"test": {}}}},
        "scorer": {"score": {"scorer": name}},
        "submission": {"submission": {"format": name, "questions": "test"}},
    }
    return _yaml(made[kind])


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=None, sort_keys=False, allow_unicode=True, width=100
    )
    return text
