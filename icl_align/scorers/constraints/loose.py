"""The forms of a response among which a loose verdict looks for one that follows an instruction."""

from __future__ import annotations


def variants(text: str) -> list[str]:
    """Gives a text as it is, and without its first line, its last one, and both; the same without `*`.

    IFEval's loose accuracy (2311.07911, section 2.3): an opening like "Sure, here it is:", a closing
    remark and Markdown's emphasis do no harm. Of equal ones, only the first is given.
    """
    lines = text.split("\n")
    shorter = ("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))
    whole = [text, *shorter]
    return list(dict.fromkeys([*whole, *(form.replace("*", "") for form in whole)]))
