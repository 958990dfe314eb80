"""What a model thinks before it answers, told apart from its answer: here, for every adapter."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emu2eval.types import Response

TAGS = (
    ("<think>", "</think>"),  # Qwen, DeepSeek, GLM, MiniMax, ERNIE, InternVL, Nemotron, Phi-4
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
"""What stands before and after a thought."""

UNCLOSED = "the reply ended during its reasoning, so it contains no answer"


@dataclass(frozen=True, slots=True)
class Apart:
    """What a model said. text: the answer; None where the thought was never closed."""

    text: str | None
    thought: str | None = None


def apart(raw: str, *, opened: bool = False) -> Apart:
    """The answer and the thought of a text that may hold both.

    A thought stands at the beginning; several in a row are one. Its first tag may be missing, where the
    prompt ends with it. opened: the prompt is known to end so, and a text without the last tag is thought.

    >>> apart("<think>a square?</think>\\n\\nred"), apart("hm</think>red")
    (Apart(text='red', thought='a square?'), Apart(text='red', thought='hm'))
    >>> apart("<think>a squ"), apart("a squ", opened=True), apart("red")
    (Apart(text=None, thought='a squ'), Apart(text=None, thought='a squ'), Apart(text='red', thought=None))
    """
    text, thoughts = raw, list[str]()
    while (tags := _first(text)) is not None:
        inside, closed, rest = text.lstrip()[len(tags[0]) :].partition(tags[1])
        thoughts.append(inside.strip())
        if not closed:
            return Apart(None, _joined(thoughts))
        text, opened = rest, False
    if not thoughts:
        ends = [(text.find(last), last) for _, last in TAGS if last in text]
        if ends:
            at, last = min(ends)
            thoughts.append(text[:at].strip())
            text, opened = text[at + len(last) :], False
    if opened:
        return Apart(None, raw.strip())
    return Apart(text.lstrip() if thoughts else text, _joined(thoughts))


def opens(prompt: str) -> bool:
    """Whether a prompt as it was laid out ends inside a thought, which the reply then goes on with.

    >>> opens("<|im_start|>assistant\\n<think>\\n"), opens("<think>\\n\\n</think>\\n\\n"), opens("Answer:")
    (True, False, False)
    """
    return any(prompt.rstrip().endswith(first) for first, _ in TAGS)


def separated(response: Response, *, opened: bool = False) -> Response:
    """The response, whose text is as the model gave it, with thought and answer apart and `raw` all of it.

    A thought that was never closed makes it an error. opened: see `apart`.
    """
    if response.text is None:
        return response
    found = apart(response.text, opened=opened)
    # Some servers give the same thought in a field of its own and in the text.
    told = dict.fromkeys(each for each in (response.thought, found.thought) if each)
    return replace(
        response,
        text=found.text,
        raw=response.raw if found.text == response.text else response.raw or response.text,
        thought="\n\n".join(told) or None,
        error=response.error or (UNCLOSED if found.text is None else None),
    )


def _first(text: str) -> tuple[str, str] | None:
    """The tags of a thought that the text begins with."""
    begun = text.lstrip()
    return next((tags for tags in TAGS if begun.startswith(tags[0])), None)


def _joined(thoughts: list[str]) -> str | None:
    return "\n\n".join(thought for thought in thoughts if thought) or None
