"""The generated reference covers what the code has, and fails where something is not described.

That links, anchors and the nav hold is checked by the build itself: `make docs`, which `.ci/run` calls.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from emu2eval import registry
from emu2eval.cli.verbs import GROUPS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def manual() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs/_site"))
        import manual
        import manual.text

        yield manual


def test_nothing_is_listed_without_a_word_about_it(manual: Any) -> None:
    assert list(manual.undescribed()) == []


def test_a_part_without_a_description_is_told(
    manual: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mute_part.py").write_text(
        "def mute(text: str, loud: bool = False): return text\n"
        'def half(text: str, loud: bool = False): "Shouts."; return text\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.BUILT_IN["cleaner"], "mute", "mute_part:mute")  # type: ignore[arg-type]
    monkeypatch.setitem(registry.BUILT_IN["cleaner"], "half", "mute_part:half")  # type: ignore[arg-type]
    monkeypatch.setitem(registry.BUILT_IN["cleaner"], "lost", "not_installed:lost")  # type: ignore[arg-type]
    found = [each.partition(":")[0] for each in manual.parts.undescribed(["cleaners"])]
    assert found == ["cleaners half", "cleaners lost", "cleaners mute", "cleaners mute"]


def test_every_part_and_verb_has_its_section(manual: Any) -> None:
    made = {**dict(manual.parts.pages()), **dict(manual.commands.pages())}
    for kind, parts in registry.BUILT_IN.items():
        text = made[f"reference/parts/{kind}s.md"]
        assert [name for name in parts if f"{{#{name}}}" not in text] == []
    verbs = {name for names in GROUPS.values() for name in names}
    assert {f"reference/cli/{name}.md" for name in verbs} <= made.keys()
    assert "`--shots` `-k K`" in made["reference/cli/run.md"]


def test_every_variable_of_the_environment_is_listed(manual: Any) -> None:
    read = re.compile(r'environ(?:\.get\(|\[)"([A-Z][A-Z0-9_]+)"')
    code = "".join(path.read_text("utf-8") for path in (ROOT / "emu2eval").rglob("*.py"))
    listed = manual.surroundings.VARIABLES
    assert set(read.findall(code)) <= set(listed)
    named_in_libraries = {"NO_COLOR"}  # by rich
    assert [name for name in listed if name not in code] == sorted(named_in_libraries)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("0* of <image 1>, a|b", r"0\* of \<image 1\>, a\|b"),
        ("`a|b` and vqa_accuracy, _x_", r"`a|b` and vqa_accuracy, \_x\_"),
        ("(arXiv 2312.13286)", "([arXiv 2312.13286](https://arxiv.org/abs/2312.13286))"),
        ("github.com/a/b-c, x", "[github.com/a/b-c](https://github.com/a/b-c), x"),
    ],
)
def test_a_docstring_is_no_markup(manual: Any, given: str, made: str) -> None:
    assert manual.text.prose(given) == made


def test_texts_of_a_task_stand_as_in_its_file(manual: Any) -> None:
    shown = manual.text.as_yaml({"ask": "{image}Q:\n", "output": {"beams": None}, "stop": ["\n"]})
    assert shown == '```yaml\nask: "{image}Q:\\n"\nstop: ["\\n"]\n```'


def test_pages_of_the_docs_stand_in_the_nav() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"([\w/-]+\.md)", nav)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    generated = {"reference/families.md"}  # placed between the generated pages
    assert pages - set(listed) - generated == set()
    assert set(listed) <= pages
