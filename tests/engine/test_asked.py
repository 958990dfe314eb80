"""What is sent to a replica arrives as it was."""

from __future__ import annotations

import pickle
from dataclasses import MISSING, fields
from pathlib import Path

from PIL import Image as PILImage

from emu2eval.engine.asked import Asked, First
from emu2eval.engine.backends.base import Batch
from emu2eval.media import images
from emu2eval.types import ChoiceOutput, Image, Prompt, Request, TextOutput, Turn


def test_a_batch_arrives_whole(tmp_path: Path) -> None:
    PILImage.new("RGB", (8, 6)).save(tmp_path / "a.png")
    shown = Image(str(tmp_path / "a.png"))
    known = images.info(shown)
    prompt = Prompt(
        (shown, "what?"), (Turn((shown, "q"), ("a",)),), "be brief", " -> ", "\n\n", "begin"
    )
    defaults = {each.name: each.default for each in fields(Prompt) if each.default is not MISSING}
    assert all(getattr(prompt, name) != default for name, default in defaults.items())
    request = Request("ab" * 32, prompt, TextOutput(max_new_tokens=3, stop=("\n",)))
    first = First(
        Request("cd" * 32, prompt, ChoiceOutput(("yes", "no"))), ("yes", "no"), {"no": "-"}
    )
    batch = Batch(7, (Asked(1, request), Asked(2, request, first)))
    sent = pickle.dumps(batch)
    arrived = pickle.loads(sent)
    assert arrived == batch
    (again,) = {each for asked in arrived.asked for each in asked.request.prompt.images()}
    assert again is not shown and images.info(again) == known
    assert b"Turn" not in sent and b"Prompt" not in sent  # as tuples, in a third of the time
