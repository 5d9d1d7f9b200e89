"""The strict grammar of one cron field: what is written here means the same to every cron.

Pure. A field is ``*``, or a list of values, ranges ``a-b``, and steps ``*/n`` and ``a-b/n``. What croniter
would accept and others read differently or not at all is refused: ranges that run backwards, steps larger than
their range, ``a/n``, ``L``, ``W``, ``#``, ``?``, ``R``, ``H``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_VALUE = "[0-9]{1,2}|[A-Za-z]{3}"
_ITEM = re.compile(rf"(?:\*|(?P<low>{_VALUE})(?:-(?P<high>{_VALUE}))?)(?:/(?P<step>[0-9]{{1,2}}))?")


@dataclass(frozen=True, slots=True)
class CronField:
    """One of the five fields: what it is called, the values it takes, and their names.

    ``star_high`` is the highest value that ``*`` stands for.
    """

    name: str
    low: int
    high: int
    star_high: int
    names: Mapping[str, int] = field(default_factory=dict)


def _named(words: str, first: int) -> Mapping[str, int]:
    return MappingProxyType({word: number for number, word in enumerate(words.split(), start=first)})


MINUTE = CronField("minute", 0, 59, 59)
HOUR = CronField("hour", 0, 23, 23)
DAY = CronField("day of month", 1, 31, 31)
MONTH = CronField("month", 1, 12, 12, _named("jan feb mar apr may jun jul aug sep oct nov dec", 1))
WEEKDAY = CronField("day of week", 0, 7, 6, _named("sun mon tue wed thu fri sat", 0))
"""0 and 7 are both Sunday."""


def values(cron_field: CronField, text: str) -> frozenset[int]:
    """The values that the text of a field stands for. Raises ValueError with a sentence."""
    items = text.split(",")
    if len(items) > 1 and "*" in items:
        raise ValueError(f"{_where(cron_field, text)}: * already means every value; write it alone")
    return frozenset(value for item in items for value in _values_of_item(cron_field, item))


def _values_of_item(cron_field: CronField, item: str) -> range:
    where = _where(cron_field, item)
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ValueError(f"{where}: write *, values, ranges a-b and steps */n or a-b/n, separated by commas")
    low, high, step = match["low"], match["high"], match["step"]
    if low is None:
        span = range(cron_field.low, cron_field.star_high + 1)
    elif high is None:
        if step is not None:
            raise ValueError(f"{where}: say where it ends: {low}-{cron_field.star_high}/{step}")
        return range(start := _value(cron_field, low, where), start + 1)
    else:
        first, last = _value(cron_field, low, where), _value(cron_field, high, where)
        if first >= last:
            raise ValueError(f"{where}: a range runs from a lower to a higher value, not from {first} to {last}")
        span = range(first, last + 1)
    return span if step is None else span[:: _step(int(step), span, where)]


def _step(step: int, span: range, where: str) -> int:
    if step < 1:
        raise ValueError(f"{where}: a step is at least 1")
    if step > span[-1] - span[0]:
        # Not an error to croniter, which fires at the first value alone: */90 would silently mean hourly.
        raise ValueError(f"{where}: a step of {step} is too large for {span[0]} to {span[-1]}")
    return step


def _value(cron_field: CronField, word: str, where: str) -> int:
    value = int(word) if word.isdigit() else cron_field.names.get(word.lower())
    if value is None:
        known = f"a number or one of {', '.join(cron_field.names)}" if cron_field.names else "a number"
        raise ValueError(f"{where}: {word!r} is not {known}")
    if not cron_field.low <= value <= cron_field.high:
        raise ValueError(f"{where}: {value} is not in {cron_field.low} to {cron_field.high}")
    return value


def _where(cron_field: CronField, text: str) -> str:
    return f"the {cron_field.name} {text!r}"
