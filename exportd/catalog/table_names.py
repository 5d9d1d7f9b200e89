"""Names of tables as the catalog writes them: ``public.accounts``, or ``"My Schema"."orders.old"`` in
quotes.
"""

import re

from exportd.model.entity import TableName

_PART = re.compile(r'"(?P<quoted>(?:[^"\x00]|"")+)"|(?P<bare>[^".\s\x00]+)')
_BARE = re.compile(r'[^".\s\x00]+')


def parse_table_name(text: str) -> TableName:
    """Both parts are taken as they are written, also without quotes (there is no folding to lower case).

    ValueError with a sentence when the schema is missing or the text is no name.
    """
    parts = []
    position = 0
    while match := _PART.match(text, position):
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
        part if _BARE.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in (table.schema, table.name)
    )
