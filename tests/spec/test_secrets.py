"""Settings that would keep a secret are refused unseen; a key is taken out of texts however it is written."""

from __future__ import annotations

import base64
import html
import json
from typing import Any
from urllib.parse import quote

import pytest

from emu2eval.errors import ConfigError, UserError
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import ModelSpec
from emu2eval.spec.secrets import Scrubber, named_for_secret, refuse

KEY = "sk-proj-Very5ecret/01+23456789"


@pytest.mark.parametrize(
    "name",
    "api_key apiKey X-API-Key Authorization token hf_token accessToken client_secret password private_key "
    "Proxy-Authorization auth cookie aws_secret_access_key".split(),
)
def test_what_is_named_for_a_secret(name: str) -> None:
    assert named_for_secret(name)
    for nested in ({name: "x"}, {"metadata": {name: "x"}}, {"headers": [{"a": {name: ["x"]}}]}):
        with pytest.raises(ConfigError, match=f"{name} would be stored"):
            refuse(nested, "extra")
    refuse({name: None, "extra": {name: ""}})
    refuse({"task.output.per_token": False, "extra": {name: True}})


@pytest.mark.parametrize(
    "name",
    "max_tokens key_env token_limit eos_token prompt_cache_key tokenizer author secretary".split(),
)
def test_what_is_not(name: str) -> None:
    refuse({"extra": {name: "x"}})


@pytest.mark.parametrize(
    "make",
    [
        lambda key: Changes.parse([f"model.settings.model={key}"]),
        lambda key: Changes.parse([key]),
        lambda key: Changes.parse([f"task.title=mine {key}"]),
        lambda key: Changes.of({"model": {"settings": {"layout": key}}}),
        lambda key: Changes.of({"judge": {key: 1}}),
        lambda key: ModelSpec(name="m", adapter="copy", settings={"headers": [key]}),
        lambda key: ModelSpec(name="m", adapter="copy", settings={key: 1}),
    ],
)
def test_a_key_in_another_setting_is_refused_unseen(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_KEY", "correct-horse-battery")
    for key in ("correct-horse-battery", "sk-proj-Very5ecret0123456789", "hf_" + "a" * 34):
        with pytest.raises(UserError, match="looks like an API key") as caught:
            make(key)
        assert key not in str(caught.value) + repr(vars(caught.value))


def test_short_values_of_the_environment_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    refuse({"model": "EMPTY"})


@pytest.mark.parametrize("around", ["", "a", "ab", "key: ", "Bearer "])
@pytest.mark.parametrize("key", [KEY, "plainlettersonly", "odd\"<&>\\'key%20~"])
def test_a_key_is_found_however_it_is_written(around: str, key: str) -> None:
    scrub = Scrubber(key)
    text = f"{around}{key}{around}"
    ways = {
        "plain": text,
        "quoted": quote(text, safe=""),
        "quoted twice": quote(quote(text, safe=""), safe=""),
        "json": json.dumps(text),
        "json in json": json.dumps(json.dumps(text)),
        "escaped": "".join(f"\\u{ord(letter):04X}" for letter in text),
        "html": html.escape(text),
        "base64": base64.b64encode(text.encode()).decode(),
        "base64 of urls": base64.urlsafe_b64encode(text.encode()).decode(),
        "hexadecimal": text.encode().hex().upper(),
    }
    for name, written in ways.items():
        assert "[key]" in scrub(f"before {written} after"), name
        assert scrub("nothing of that kind: %41 \\u0041 &amp; QUJD") == (
            "nothing of that kind: %41 \\u0041 &amp; QUJD"
        )
    assert key not in repr(scrub)


def test_a_short_key_is_taken_out_as_it_is_alone() -> None:
    assert Scrubber("red")("red cmVk") == "[key] cmVk"
    assert Scrubber(None)("red") == "red"
