"""Files are read and written as UTF-8 whatever the system's encoding is."""

from __future__ import annotations

import ast
from pathlib import Path

import emu2eval

PACKAGE = Path(emu2eval.__file__).parent


def test_every_text_file_names_its_encoding() -> None:
    lacking = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            named = {keyword.arg for keyword in node.keywords}
            if node.func.attr in ("read_text", "write_text") and "encoding" not in named:
                lacking.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
            if node.func.attr in ("open", "fdopen") and "encoding" not in named:
                modes = [each for each in node.args if isinstance(each, ast.Constant)]
                binary = any("b" in str(mode.value) for mode in modes)
                text = any(set(str(mode.value)) <= set("rwxa+t") for mode in modes)
                if text and not binary:
                    lacking.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert lacking == []
