"""Makes names for the catalog: of fields from columns, and of entities from tables. Reads and writes names of tables.

A table is written ``public.accounts``, or ``"My Schema"."orders.old"`` in quotes.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import count

from exportd.model.entity import TableName

MAX_ENTITY_CODE_LENGTH = 40
MAX_FIELD_NAME_BYTES = 63
"""Postgres cuts a longer name, which would change the keys of JSON records."""

_TABLE_NAME_PART = re.compile(r'"(?P<quoted>(?:[^"\x00]|"")+)"|(?P<bare>[^".\s\x00]+)')
_BARE_TABLE_NAME = re.compile(r'[^".\s\x00]+')


def camel_case(name: str) -> str:
    """``dt_created`` is dtCreated, ``_id`` id, ``URL_path`` urlPath; a name in camelCase stays as it is.

    A name of nothing but separators stays as it is too, without what cannot be printed.
    """
    words = _words(name)
    if not words:
        return "".join(character for character in name if character.isprintable()) or "field"
    first, *others = words
    return _lower_start(first) + "".join(_capitalized(word) for word in others)


def snake_case(name: str) -> str:
    """``dtCreated`` is dt_created, ``userID`` user_id, ``URLPath`` url_path; a name in snake_case stays as it is."""
    result = ""
    for index, character in enumerate(name):
        before = name[index - 1] if index else ""
        after = name[index + 1] if index + 1 < len(name) else ""
        new_word = character.isupper() and (
            before.islower() or before.isdigit() or (before.isupper() and after.islower())
        )
        result += f"_{_lower(character)}" if new_word else _lower(character)
    return result


def unique_names(names: Sequence[str], *, taken: Iterable[str] = ()) -> list[str]:
    """The names, with a number (from 2) appended to each that is used already, among themselves or in ``taken``.

    Names that differ in upper and lower case only count as the same, because they do in many warehouses. A number never
    makes a name that another one has.
    """
    used = {name.casefold() for name in taken}
    reserved = used | {name.casefold() for name in names}
    unique = []
    for name in names:
        candidate = name
        if name.casefold() in used:
            candidate = next(
                numbered for number in count(2) if (numbered := f"{name}{number}").casefold() not in reserved
            )
        used.add(candidate.casefold())
        reserved.add(candidate.casefold())
        unique.append(candidate)
    return unique


def entity_code(table: str) -> str:
    """``order_items`` is ORDER_ITEMS; other letters than A to Z lose their accents, or are left out."""
    words = _ascii_words(table)
    code = "_".join(words).upper()[:MAX_ENTITY_CODE_LENGTH].rstrip("_")
    if code[:1].isalpha() and code != "ALL":  # which means every entity
        return code
    return f"T_{code}"[:MAX_ENTITY_CODE_LENGTH].rstrip("_")


def type_token(table: str) -> str:
    """``order_items`` is orderitem: the ``type=`` segment of object keys, singular and without separators."""
    words = _ascii_words(table)
    return "".join([*words[:-1], singular(words[-1])]) if words else "record"


def label(table: str) -> str:
    """``order_items`` is Order Items; the code where the name has no letters."""
    return " ".join(_capitalized(word) for word in _words(snake_case(table))) or entity_code(table)


def singular(word: str) -> str:
    """An English plural's singular, by its ending; a proposal that a person may correct."""
    if len(word) <= 3 or word.endswith(("ss", "us", "is")) or not word.endswith("s"):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    return word[:-1]


def parse_table_name(text: str) -> TableName:
    """Both parts are taken as they are written, also without quotes (there is no folding to lower case).

    ValueError with a sentence when the schema is missing or the text is no name.
    """
    parts = []
    position = 0
    while match := _TABLE_NAME_PART.match(text, position):
        quoted = match["quoted"]
        parts.append(match["bare"] if quoted is None else quoted.replace('""', '"'))
        position = match.end()
        if text[position : position + 1] != ".":
            break
        position += 1
    if position != len(text) or not parts or len(parts) > 2 or text.endswith("."):
        raise ValueError('should be a schema and a table such as "public.accounts"')
    if len(parts) == 1:
        raise ValueError(f'should name the schema too, such as "public.{text}"')
    return TableName(*parts)


def format_table_name(table: TableName) -> str:
    """The inverse of ``parse_table_name``."""
    return ".".join(
        part if _BARE_TABLE_NAME.fullmatch(part) else '"' + part.replace('"', '""') + '"'
        for part in (table.schema, table.name)
    )


def _words(name: str) -> list[str]:
    """The parts between underscores, hyphens, spaces, dots and the like."""
    return "".join(character if character.isalnum() else " " for character in name).split()


def _ascii_words(table: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", snake_case(table).casefold()).encode("ascii", "ignore").decode().lower()
    return _words(plain)


def _lower_start(word: str) -> str:
    """``DtCreated`` is dtCreated, ``URLPath`` urlPath, ``ID`` id."""
    capitals = next((index for index, character in enumerate(word) if character.islower()), len(word))
    kept = max(capitals - 1, 1) if capitals < len(word) else len(word)
    return _lower(word[:kept]) + word[kept:] if word[:1].isupper() else word


def _capitalized(word: str) -> str:
    if word.isupper() and len(word) > 1:
        word = _lower(word)
    first = word[0].upper()
    return first + word[1:] if len(first) == 1 else word  # ß has no capital of one letter


def _lower(text: str) -> str:
    """In small letters, except the few capitals (İ) whose small letter is two characters."""
    return "".join(small if len(small := character.lower()) == 1 else character for character in text)
