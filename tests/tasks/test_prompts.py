"""The prompts of every task and protocol, word for word.

EMU2EVAL_WRITE_GOLDEN=1 pytest tests/tasks/test_prompts.py writes golden/ anew: read the difference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from .conftest import TASKS, drawn, protocols, shots

GOLDEN = Path(__file__).parent / "golden"


def test_the_prompt_is_the_golden_one(
    task: str, protocol: str, root: Path, command: Callable[..., str]
) -> None:
    asked = ["show", "--task", task, "--protocol", protocol, *drawn(task, protocol)]
    shown = "\n".join(command(*asked, "--shots", number) for number in shots(task, "0", "2"))
    # The bytes of a drawn image, and so its digest, depend on the encoder's version.
    shown = re.sub(r", sha256 [0-9a-f]{16}…|(?<=#base64)/\d+/\d+", "", shown).replace(str(root), "")
    shown = re.sub("─+", "──", shown)
    path = GOLDEN / f"{task}.{protocol}.txt"
    if os.environ.get("EMU2EVAL_WRITE_GOLDEN"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


def test_every_golden_prompt_belongs_to_a_protocol() -> None:
    wanted = {f"{task}.{protocol}.txt" for task in TASKS for protocol in protocols(task)}
    assert {path.name for path in GOLDEN.glob("*.txt")} == wanted
