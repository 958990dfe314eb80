"""A page for each kind of part: readers, choosers, scorers and so on, with their options and an example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from emu2eval.doctor.parts import KINDS, Part, parts
from emu2eval.spec.options import besides
from manual.text import code, doc, fence, heading, options, page, prose, sentence, table

ABOUT = {
    "readers": "turn the files of a benchmark, or of your own data, into samples: `data.reader` in "
    "a task file",
    "choosers": "pick the demonstrations of a query from the pool: `demonstrations.chooser`",
    "encoders": "turn images and texts into vectors. Besides these, an encoder is a checkpoint of "
    "CLIP, SigLIP, DINO "
    "or SSCD by its path or its name on the hub: `demonstrations.options.encoder`, and options of scorers",
    "outputs": "say what is wanted of a model: `output.kind`",
    "cleaners": "change the text of an answer before it is scored, one after the other: `score.clean`",
    "scorers": "turn an answer into a number: `score.scorer`, or `--scorer`",
    "judges": "are the scorers that ask a model to judge, which `--judge` names",
    "adapters": "put requests to a kind of model: `adapter` in a model file",
    "protocols": "say how a task is asked: `--protocol`. Each task's page shows its own, with the prompts",
    "submissions": "write what a benchmark's server wants: `submission.format`, `emu2eval submit`",
    "exports": "write stored runs as other programs read them: `emu2eval export --format`",
}
"""What parts of a kind do, as the end of a sentence."""
_OWN = frozenset(KINDS) - {"judges", "protocols", "exports"}
"""Kinds that an entry point or `module:attr` can add to."""


def pages() -> Iterator[tuple[str, str]]:
    for kinds in KINDS:
        yield f"reference/parts/{kinds}.md", _page(kinds)


def undescribed(wanted: Sequence[str] = KINDS) -> Iterator[str]:
    """Parts and options that nothing is said of, or that cannot be looked at for lack of an extra."""
    for kinds in wanted:
        for each in parts(kinds):
            if each.lacks:
                yield f"{kinds} {each.name}: {each.lacks}"
            elif not each.about:
                yield f"{kinds} {each.name}"
            yield from (
                f"{kinds} {each.name}: option {option.name}"
                for option in each.options
                if not option.about
            )


def anchor(kinds: str, name: str) -> str:
    """Where a part stands, from a page that lies beside the folder of the parts."""
    return f"{kinds}.md#{name}"


def _page(kinds: str) -> str:
    found = parts(kinds, uses=True)
    own = (
        f"One of your own goes by `module:attr`, or by an [entry point](../entry-points.md). "
        f"`emu2eval ls {kinds}` "
        "prints this page."
        if kinds in _OWN
        else f"`emu2eval ls {kinds}` prints this page."
    )
    title = kinds.capitalize()
    listed = [(f"[`{each.name}`](#{each.name})", sentence(each.about)) for each in found]
    return page(
        heading(1, title),
        f"{title} {ABOUT[kinds]}. {own}",
        table((kinds.removesuffix("s"), ""), listed),
        *(_part(kinds, each) for each in found),
    )


def _part(kinds: str, each: Part) -> str:
    return page(
        heading(2, each.name, each.name),
        _text(kinds, each),
        options(each.options) if each.options else "",
        _used(kinds, each),
        fence(each.example, "console" if each.example.startswith("emu2eval") else "yaml")
        if each.example
        else "",
        f"Defined at {code(each.where)}." if each.where else "",
    ).rstrip("\n")


def _text(kinds: str, each: Part) -> str:
    if kinds != "protocols":
        return doc(besides(each.text, [option.name for option in each.options]))
    said = [line.partition(": ") for line in each.text.splitlines()]
    return "\n".join(
        f"- [{task}](../tasks/{task}.md#{each.name}): {prose(words)}" for task, _, words in said
    )


def _used(kinds: str, each: Part) -> str:
    if not each.used_by:
        return ""
    if kinds == "adapters":
        named = ", ".join(f"[{name}](../models.md#{name})" for name in each.used_by)
    else:
        named = ", ".join(f"[{name}](../tasks/{name}.md)" for name in each.used_by)
    return f"Used by {named}."
