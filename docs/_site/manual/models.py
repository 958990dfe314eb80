"""Model files, families of transformers, published tables."""

from __future__ import annotations

from collections.abc import Iterator

from emu2eval.adapters.huggingface.families import FAMILIES
from emu2eval.papers.published import Paper, PaperTable, load_paper
from emu2eval.spec import catalog
from emu2eval.spec.model import ModelSpec, load_model
from manual.text import as_yaml, code, heading, page, prose, table


def pages() -> Iterator[tuple[str, str]]:
    yield "reference/models.md", _models()
    yield "reference/papers.md", _papers()


def _models() -> str:
    found = {name: load_model(name) for name in catalog.names("model")}
    rows = [
        (
            f"[{name}](#{name})",
            prose(spec.title),
            f"[{spec.adapter}](parts/adapters.md#{spec.adapter})",
        )
        for name, spec in found.items()
    ]
    return page(
        "# Models",
        "These come with the program as files: `emu2eval run --model NAME`. Any other checkpoint "
        "of transformers or "
        "Emu2 goes by its folder or its name on the hub, without a file; where its "
        "[family](families.md) has a file here, the settings of that file are taken. One of your own is "
        "[a file](files/model.md).",
        table(("model", "", "adapter"), rows),
        *(_model(spec) for spec in found.values()),
    )


def _model(spec: ModelSpec) -> str:
    facts = [
        ("Source", prose(spec.source)),
        ("Licence", prose(spec.licence)),
        ("Family", code(spec.family)),
        (
            "Training",
            f"step {spec.training.step:,} of {spec.training.series}" if spec.training else "",
        ),
    ]
    rows = [fact for fact in facts if fact[1]]
    return page(
        heading(2, spec.name, spec.name),
        f"{prose(spec.title)}. {prose(spec.about)}".strip(),
        table(("", ""), rows) if rows else "",
        as_yaml(
            {"adapter": spec.adapter, **({"settings": spec.settings} if spec.settings else {})}
        ),
    ).rstrip("\n")


def families() -> str:
    """A table of the families of transformers."""
    words = {"works": "works", "needs": "works with"}
    rows = [
        (
            code(each.model_type),
            words.get(each.standing, each.standing)
            + (f" {' and '.join(each.packages)}" if each.standing == "needs" else ""),
            prose(each.why or ""),
        )
        for each in FAMILIES
    ]
    return table(("family", "verdict", "why"), rows)


def _papers() -> str:
    papers = {name: load_paper(name) for name in catalog.names("paper")}
    return page(
        "# Published tables",
        "Numbers that papers printed, kept with the program: `emu2eval table --paper NAME` sets "
        "yours beside them, "
        "`emu2eval reproduce NAME` measures a table again, `emu2eval explain RUN --paper NAME` "
        "says why a number "
        "differs.",
        *(block for name, paper in papers.items() for block in _paper(name, paper)),
    )


def _paper(name: str, given: Paper) -> Iterator[str]:
    paper = given.spec
    yield heading(2, name, name)
    yield f"{prose(paper.title)}, {prose(paper.source)}. {prose(paper.about)}"
    for each in paper.tables:
        yield heading(3, f"Table {each.id}: {prose(each.caption)}", f"{name}-{each.id}")
        yield f"{prose(each.scale)}." if each.scale else ""
        yield _numbers(each)


def _numbers(given: PaperTable) -> str:
    rows = [
        (
            prose(row.model),
            given.shots_of(row),
            *(f"{value:.{given.digits}f}" if value is not None else "–" for value in row.values),
        )
        for row in given.rows
    ]
    head = ["model", "shots", *(prose(column.title) for column in given.columns)]
    return table(head, rows)
