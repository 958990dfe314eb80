"""Links of pages to files of the repository become links to its address."""

from __future__ import annotations

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<!`)\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")


def repository() -> str:
    """The address that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str = project["urls"]["Repository"]
    return address.rstrip("/")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Relative links that leave docs/ point to the repository, where they name a file of it."""
    here = posixpath.dirname(f"docs/{page.file.src_uri}")

    def outside(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(here, link[1]))
        if path.startswith(("docs/", "..")) or not (ROOT / path).exists():
            return link[0]
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({repository()}/{kind}/main/{path}{link[2] or ''})"

    return _LINK.sub(outside, markdown)
