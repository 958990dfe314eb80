"""What mkdocs asks while it builds the site: generated pages, links to files of the repository, llms.txt."""

from __future__ import annotations

import posixpath
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import manual  # noqa: E402

_LINK = re.compile(r"(!?)(\[[^\]\n]*)\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")
_BLOCK = re.compile(r"<!-- generated: (\w+) -->")
_ROW = re.compile(r"(?m)^\|.*$")
_made: dict[str, str] = {}


def repository() -> str:
    """The address that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str = project["urls"]["Repository"]
    return address.rstrip("/")


def on_config(config: Any, **_: Any) -> Any:
    """Generated pages stand in the nav, between the reference's front page and its written pages."""
    lacks = list(manual.undescribed())
    if lacks:
        raise ValueError("described nowhere (a docstring says `name: words`):\n" + "\n".join(lacks))
    _made.update(manual.pages())
    reference = next(each["Reference"] for each in config.nav if "Reference" in each)
    sections = manual.nav(_made)
    placed = {page for each in sections for pages in each.values() for page in pages}
    rest = [path for path in _made if path not in placed]
    reference[1:1] = sections
    reference += rest
    return config


def on_files(files: Any, config: Any, **_: Any) -> Any:
    for path, text in _made.items():
        files.append(File.generated(config, path, content=text))
    for shown in sorted((ROOT / "results").glob("*.*g")):  # the pictures that pages show
        name = shown.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(shown)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Blocks are filled; relative links that leave docs/ lead to the repository, where they name a file of
    it."""
    below = posixpath.dirname(page.file.src_uri)
    here = posixpath.join("docs", below)

    def outside(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(here, link[3]))
        if path.startswith(("docs/", "..")) or not (ROOT / path).exists():
            return link[0]
        if link[1]:
            return f"![{link[2][1:]}]({posixpath.relpath(path, below or '.')})"
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{link[2]}]({repository()}/{kind}/main/{path}{link[4] or ''})"

    filled = _BLOCK.sub(lambda found: manual.blocks()[found[1]](), markdown)
    # A bar within code in a table is escaped for GitHub, which shows it so here.
    filled = _ROW.sub(
        lambda row: re.sub(r"`[^`]*`", lambda c: c[0].replace(r"\|", "|"), row[0]), filled
    )
    return _LINK.sub(outside, filled)


def on_nav(nav: Any, config: Any, files: Any) -> Any:
    """Remembers the sections for llms.txt."""
    _sections[:] = nav.items
    return nav


_sections: list[Any] = []


def on_post_build(config: Any, **_: Any) -> None:
    """llms.txt (llmstxt.org): every page with its title, by section."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for section in _sections:
        pages = list(_below(section))
        if getattr(section, "children", None):
            lines += [f"## {section.title}", ""]
        lines += [f"- [{page.title}]({page.file.dest_uri})" for page in pages]
        lines.append("")
    Path(config.site_dir, "llms.txt").write_text("\n".join(lines), encoding="utf-8")


def _below(item: Any) -> Any:
    children = getattr(item, "children", None)
    if children is None:
        yield item
        return
    for each in children:
        yield from _below(each)
