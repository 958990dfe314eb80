"""What a name that is none of ours is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec.catalog import find_file


@pytest.mark.parametrize("kind", ["task", "model"])
def test_a_file_of_that_name_in_this_folder_is_pointed_at(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName) as before:
        find_file(kind, "flowers")
    assert "give the path of its .yaml file" in str(before.value.hint)
    assert ("checkpoint's folder" in str(before.value.hint)) == (kind == "model")
    (tmp_path / "flowers.yaml").touch()
    with pytest.raises(ConfigError, match=f"^unknown {kind} 'flowers'") as error:
        find_file(kind, "flowers")
    assert error.value.hint == "to use flowers.yaml in this folder: ./flowers.yaml"


def test_a_path_of_a_model_may_be_that_of_a_folder() -> None:
    with pytest.raises(ConfigError, match="this model file or folder does not exist") as error:
        find_file("model", "./no-checkpoint")
    assert "of a checkpoint's folder" in str(error.value.hint)
