"""A text to paste where rights are granted. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """``title`` says whose it is and what for; ``text`` is a policy or commands, ready to paste."""

    title: str
    text: str
