"""Every block of every page that people read is run as it stands there, or checked where it says why not."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from emu2eval.data import easy_vqa
from tests.conftest import MakeTask

from .blocks import ROOT, blocks, pages, shown_in
from .running import Page, beside
from .stages import STAGES, Stage

PAGES = [page for page in pages() if any(True for _ in blocks(page))]


@pytest.fixture(scope="module", autouse=True)
def _a_part_of_the_published_data() -> Iterator[None]:
    """Questions of every twentieth image of easy-VQA, since all of them take a second to read each time."""
    with pytest.MonkeyPatch.context() as patch:
        read, rows = easy_vqa.read, easy_vqa._rows

        @functools.cache
        def fewer(part: easy_vqa.Part) -> list[tuple[str, str, int]]:
            return [row for row in rows(part) if row[2] % 20 == 0]

        @functools.wraps(read)
        def read_fewer(root, part, apart=()):  # type: ignore[no-untyped-def]
            if apart:
                easy_vqa.shape_images(part)  # of all, before there are fewer
            with pytest.MonkeyPatch.context() as meanwhile:
                meanwhile.setattr(easy_vqa, "_rows", fewer)
                return list(read(root, part, apart))

        patch.setattr(easy_vqa, "read", read_fewer)
        yield


@pytest.fixture
def page_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_task: MakeTask
) -> Iterator[object]:
    before = set(sys.modules)
    closing: list[Callable[[], None]] = []

    def made(name: str) -> Page:
        beside(tmp_path)
        stage = Stage(tmp_path, monkeypatch, make_task)
        for step in STAGES.get(name, ()):
            step(stage)
        closing.extend(stage.closing)
        return Page(tmp_path, monkeypatch, stage.names, stage.pinned)

    yield made
    for close in closing:
        close()
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if str(tmp_path) in file:
            del sys.modules[name]


@pytest.mark.parametrize("name", PAGES)
def test_the_blocks_of(name: str, page_of) -> None:  # type: ignore[no-untyped-def]
    page = page_of(name)
    for block in blocks(name):
        page.block(block)


def test_what_is_cut_is_marked() -> None:
    printed = "wrote a.svg\nreading x\nreading y\n┃ a ┃ 1.0 ±2 ┃\ndone\n"
    assert shown_in("reading x\n…\ndone\n", printed)
    assert shown_in("┃ a ┃ 1.0 …\ndone\n", printed)
    assert not shown_in("reading x\ndone\n", printed)
    assert not shown_in("reading\n", printed)
    assert not shown_in("done\n…\nreading x\n", printed)


def test_every_page_is_found() -> None:
    assert {"README.md", "examples/experiments/README.md"} <= set(PAGES) and len(PAGES) > 8


@pytest.mark.parametrize("name", pages())
def test_its_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
        if "/reference/" in f"/{target}" or name.startswith("docs/reference/"):
            continue  # generated with the site, whose build checks it
        assert (ROOT / name).parent.joinpath(target).exists(), f"{name} links to {target}"


def said_by_the_code(beginnings: Collection[str]) -> Iterator[str]:
    """The texts of the files in which one of these stands, with `…` where something is filled in."""
    for path in (ROOT / "emu2eval").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if not any(beginning in source for beginning in beginnings):
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                parts = [str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values]
                yield "".join(parts)


def test_every_message_of_the_troubleshooting_page_is_one() -> None:
    """Words between the … of a quoted message stand in this order in one text of the code."""
    text = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    texts = list(said_by_the_code({max(q.split("…"), key=len).strip()[:14] for q in quoted}))
    patterns = {q: ".*".join(map(re.escape, q.strip("…").split("…"))) for q in quoted}
    unknown = [
        q for q, pattern in patterns.items() if not any(re.search(pattern, t) for t in texts)
    ]
    assert len(quoted) > 25 and unknown == []
