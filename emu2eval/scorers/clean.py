"""Clean-up of a generated text before it is scored. A task names the steps it wants, in order."""

from __future__ import annotations

import re
from string import punctuation, whitespace


def first_line(text: str) -> str:
    """What stands before the first newline, leading blank lines aside.

    >>> first_line("\\n red\\nQuestion: what")
    ' red'
    """
    return text.lstrip("\r\n").partition("\n")[0]


def strip(text: str) -> str:
    """Without white space at both ends."""
    return text.strip()


def lower(text: str) -> str:
    """In lower case."""
    return text.lower()


def no_final_period(text: str) -> str:
    """Without one period at the end.

    >>> no_final_period("yes."), no_final_period("3.5")
    ('yes', '3.5')
    """
    return text[:-1] if text.endswith(".") else text


def no_final_periods(text: str) -> str:
    """Without periods at the end, as LLaVA's convert_gqa_for_eval.py (c121f04) prepares answers.

    >>> no_final_periods("Yes..."), no_final_periods("no. ")
    ('Yes', 'no. ')
    """
    return text.rstrip(".")


def short_answer(text: str) -> str:
    """Emu1's clean-up of VQA answers (github.com/baaivision/Emu, Emu1/mm_eval).

    Cuts at the first newline, ". ", double quote and ", "; strips, lowers, drops one final period and
    then each of five leading words once, in this order.

    >>> short_answer("It is a Dog. It barks"), short_answer("the red, white")
    ('dog', 'red')
    """
    for mark in ("\n", ". ", '"', ", "):
        text = text.partition(mark)[0]
    text = no_final_period(text.strip().lower())
    for lead in ("it is ", "it's ", "a ", "an ", "the "):
        text = text.removeprefix(lead)
    return text


def openflamingo_vqa(text: str) -> str:
    """OpenFlamingo's clean-up of VQA answers: cut where the next demonstration begins, then at ", ".

    >>> openflamingo_vqa("red, or blueQuestion:What"), openflamingo_vqa("a Shorthair cat")
    ('red', 'a ')
    """
    return re.split("Question|Answer|Short", text, maxsplit=1)[0].partition(", ")[0]


def bare(text: str) -> str:
    """Without white space and ASCII punctuation at both ends.

    >>> bare(' "t-shirt." ')
    't-shirt'
    """
    return text.strip(whitespace + punctuation)


def no_double_quotes(text: str) -> str:
    """Without double quotes, as OpenFlamingo cleans captions.

    >>> no_double_quotes('a sign that says "stop"')
    'a sign that says stop'
    """
    return text.replace('"', "")


def first_sentence(text: str) -> str:
    """What stands before the first newline and then before the first ". ", as Emu1 cleans captions.

    >>> first_sentence("A dog runs. It is black."), first_sentence("no. 5\\nis red")
    ('A dog runs', 'no')
    """
    return text.partition("\n")[0].partition(". ")[0]


def vl_icl(text: str) -> str:
    """VL-ICL's clean-up (github.com/ys-zong/VL-ICL, evals/eval.py): what stands before the first newline,
    or without one before the first period, unless that stands first.

    >>> vl_icl(" daku\\nThis is a perpo."), vl_icl("daku. Or 3.5"), vl_icl(".5")
    ('daku', 'daku', '.5')
    """
    text = text.strip()
    cut = text.find("\n")
    if cut <= 0:
        cut = text.find(".")
    return text[:cut] if cut > 0 else text


def first_number(text: str) -> str:
    """The first run of digits, or nothing: what VL-ICL reads of a calculation.

    >>> first_number("it is 12, not 13"), first_number("-3"), first_number("twelve")
    ('12', '3', '')
    """
    found = re.search(r"\d+", text)
    return found.group() if found else ""


def yes_or_no(text: str) -> str:
    """Yes where the text holds it, in whatever case and place; else no.

    >>> yes_or_no("Yes, they are"), yes_or_no("eyes"), yes_or_no("maybe")
    ('yes', 'yes', 'no')
    """
    return "yes" if "yes" in text.lower() else "no"
