"""The name that a person probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, known: Iterable[str]) -> str | None:
    """The most similar of the known names, upper and lower case being the same; None when nothing is similar."""
    by_lower_case = {name.lower(): name for name in known}
    matches = get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str], *, what: str) -> str:
    """The end of a sentence about an unknown name: the closest one, or all of them when they are few."""
    names = list(known)
    match = closest(word, names)
    if match is not None:
        return f"did you mean {match}?"
    if not names:
        return f"there are no {what}"
    if len(names) > 25:
        return f"none of the {len(names)} {what} is similar"
    return f"the {what} are {', '.join(names)}" if len(names) > 1 else f"the only one of the {what} is {names[0]}"
