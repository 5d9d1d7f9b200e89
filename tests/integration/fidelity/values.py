"""A table with every value that some exporter has got wrong."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

import asyncpg

from exportd.database.connector import Connection
from exportd.model.entity import Entity, Field
from tests.fixtures.snapshot_exports import entity


class JsonForm(Enum):
    """What a column's values are in JSONL."""

    SCALAR = auto()
    ARRAY = auto()
    JSON = auto()
    """JSON text, or something that becomes an object."""


@dataclass(frozen=True)
class Column:
    """A column and its awkward values: texts, or SQL expressions where they begin like one."""

    name: str
    type: str
    values: Sequence[str]
    form: JsonForm = JsonForm.SCALAR

    def value(self, row: int, *, big: bool = True) -> str:
        """The value of a row, as an SQL expression."""
        text = self.values[row % len(self.values)]
        if not big:
            text = text.replace(str(_BIG), "7")
        return f"({text if text.startswith(_EXPRESSIONS) else _quoted(text)})::{self.type}"


TYPES = """
CREATE TYPE public.mood AS ENUM ('sad', 'so, so', 'with "quotes"', 'ünï');
CREATE DOMAIN public.document AS json;
CREATE DOMAIN public.moment AS timestamptz;
CREATE DOMAIN public.positive AS numeric CHECK (VALUE > 0);
CREATE TYPE public.place AS (street text, at timestamptz, size numeric, plan json);
CREATE DOMAIN public.home AS public.place;
CREATE TYPE public.text_range AS RANGE (subtype = text, multirange_type_name = public.text_multirange);
"""

_ALL_BYTES = (
    "(SELECT decode(string_agg(lpad(to_hex(i), 2, '0'), '' ORDER BY i), 'hex') FROM generate_series(0, 255) AS i)"
)
_CONTROLS = "(SELECT string_agg(chr(i), '' ORDER BY i) FROM generate_series(1, 31) AS i)"
_EXPRESSIONS = ("repeat(", "decode(", "(SELECT")
_BIG = 1_000_000

_TEXTS = (
    "",
    " ",
    "NULL",
    "null",
    "\\N",
    "\\.",
    "\\",
    '"',
    '""',
    "'",
    ",",
    "a,b",
    'say "hi"',
    "\n",
    "\r",
    "\r\n",
    "\t",
    "a\nb\r\nc\rd\te",
    "\n\n",
    "\\n",
    "true",
    "\u0085\u2028\u2029\ufeff",
    "\x7f\x80\x9f",
    "😀 👩‍👩‍👧 e\u0301",
    "\U0010ffff",
    "\x01\x02",
    "{}",
    "[null]",
    "=1+1",
    _CONTROLS,
    f"repeat('xyz', {_BIG})",
    f"repeat(E'\"\\n,', {_BIG})",
)

_JSON_TEXTS = (
    "null",
    "true",
    '""',
    "[]",
    "{}",
    "1e999999",
    "-0",
    "1.10",
    "123456789012345678901234567890.12345",
    '"\\u0000"',
    '"\\ud83d\\ude00 \\u2028"',
    '  {"b" : 1,\t"a":2, "b":3}  ',
    '{"a":\n [1,\r\n 2\r]\n}',
    '\n"x"',
    '"a\\nb\\tc\\\\d\\"e/\\/"',
    '{"": {"": [[], [{}], null]}}',
    '[1,2.0,3e1,"4"]',
    '{"deleted": true}',
)

_JSONB_TEXTS = (
    "null",
    "true",
    '""',
    "[]",
    "{}",
    "1e1000",
    "-0.0",
    "1.10",
    "123456789012345678901234567890.12345",
    '"\\ud83d\\ude00 \\u2028"',
    '{"b": 1, "a": 2, "b": 3}',
    '"a\\nb\\tc\\\\d\\"e/"',
    '{"": {"": [[], [{}], null]}}',
)

_DATES = (
    "infinity",
    "-infinity",
    "0044-03-15 BC",
    "0001-01-01",
    "0001-12-31 BC",
    "10000-01-01",
    "1970-01-01",
    "2024-02-29",
)
_TIMES = (
    "infinity",
    "-infinity",
    "0044-03-15 12:00:00 BC",
    "4713-01-01 00:00:00 BC",
    "0001-01-01 00:00:00",
    "10000-01-01 00:00:00",
    "294276-12-31 23:59:59.999999",
    "2026-01-31 23:59:59.999999",
    "2026-01-31 23:59:59.1",
    "1970-01-01 00:00:00",
    "1883-11-18 12:03:58",
)
_FLOATS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "-0",
    "0",
    "0.1",
    "0.30000000000000004",
    "1e-37",
    "1e22",
    "123456789",
    "16777217",
    "1e15",
    "1e16",
)


def _there(time: str) -> str:
    """The time at an offset from UTC."""
    if "infinity" in time:
        return time
    clock, _, era = time.partition(" BC")
    return f"{clock}-00:30{' BC' * time.endswith(' BC')}{era}".replace("294276", "294275")


COLUMNS: tuple[Column, ...] = (
    Column("small", "smallint", ("-32768", "32767")),
    Column("whole", "integer", ("-2147483648", "2147483647")),
    Column("large", "bigint", ("-9223372036854775808", "9223372036854775807")),
    Column(
        "exact",
        "numeric",
        (
            "NaN",
            "Infinity",
            "-Infinity",
            "1e40",
            "1e-36",
            "-0.000",
            "0.00",
            "1.10",
            "12345678901234567890.12345678901234567890",
            "1e1000",
            "-1.5e-1000",
        ),
    ),
    Column("scaled", "numeric(10,2)", ("NaN", "1.1", "-0.004", "99999999.99")),
    Column("single", "real", (*_FLOATS, "1e-45", "3.4028235e38", "1.17549435e-38")),
    Column(
        "double",
        "double precision",
        (*_FLOATS, "4.9406564584124654e-324", "1.7976931348623157e308", "2.2250738585072014e-308"),
    ),
    Column("flag", "boolean", ("true", "false")),
    Column("words", "text", _TEXTS),
    Column("short", "varchar(20)", [text for text in _TEXTS if len(text) <= 20]),
    Column("padded", "char(5)", ("ab", "", "a b", "\n", '"', "ünïcö")),
    Column("letter", '"char"', ("a", "", '"', ",")),
    Column("label", "name", ("pg_catalog", 'a"b', "")),
    Column("octets", "bytea", ("\\x", "\\x00", "\\x5c", _ALL_BYTES, f"decode(repeat('00ff5c', {_BIG}), 'hex')")),
    Column("day", "date", (*_DATES, "4713-01-01 BC", "5874897-12-31")),
    Column("stamp", "timestamp", _TIMES),
    Column("stamp_0", "timestamp(0)", _TIMES[:6]),
    Column("instant", "timestamptz", [_there(time_) for time_ in _TIMES]),
    Column("clock", "time", ("00:00:00", "24:00:00", "23:59:59.999999")),
    Column("clock_there", "timetz", ("24:00:00+15:59", "00:00:00.000001-12:34:56", "12:00:00Z")),
    Column(
        "span",
        "interval",
        (
            "1 mon -1 day",
            "-1 year 2 mons -3 days 04:05:06.789",
            "178000000 years",
            "0",
            "-00:00:00.000001",
            "1 day -00:00:01",
            "-1 day +02:03:04",
            "1 year -1 mon",
            "2562047788:00:54.775807",
        ),
    ),
    Column("document", "json", _JSON_TEXTS, JsonForm.JSON),
    Column("binary_document", "jsonb", _JSONB_TEXTS, JsonForm.JSON),
    Column("of_domain_json", "public.document", _JSON_TEXTS, JsonForm.JSON),
    Column("of_domain_time", "public.moment", ("infinity", "2026-01-31 23:59:59.5+02", "0044-03-15 12:00:00+00 BC")),
    Column("of_domain_number", "public.positive", ("1e-36", "Infinity", "NaN", "7.0")),
    Column(
        "numbers",
        "integer[]",
        ("{}", "{1,NULL,3}", "{{1,2},{3,NULL}}", "[0:1]={7,8}", "[2:3][-1:0]={{1,2},{3,4}}"),
        JsonForm.ARRAY,
    ),
    Column(
        "strings",
        "text[]",
        ("{}", '{NULL,"NULL","",a,"a\\"b","\\\\","{}",","," ","a\nb"}', '{{"a","b"},{NULL,"NULL"}}', '[5:5]={"\t"}'),
        JsonForm.ARRAY,
    ),
    Column(
        "instants",
        "timestamptz[]",
        ('{infinity,"2026-01-31 23:59:59.5+02",NULL,"0044-03-15 12:00:00+00 BC"}',),
        JsonForm.ARRAY,
    ),
    Column("amounts", "numeric[]", ("{NaN,1e40,-Infinity,1.10,NULL}",), JsonForm.ARRAY),
    Column("blobs", "bytea[]", ('{"\\\\x00ff","",NULL}',), JsonForm.ARRAY),
    Column(
        "documents",
        "json[]",
        ('{"{\\"a\\":\n1}",NULL,"null","[1,\r\n2]"}', "{}", '{{"1"},{"\\"\\\\u0000\\""}}'),
        JsonForm.JSON,
    ),
    Column("of_domain_documents", "public.document[]", ('{"{\\"a\\":\n1}",NULL}',), JsonForm.JSON),
    Column("moods_felt", "public.mood[]", ('{sad,"so, so","with \\"quotes\\"",NULL}',), JsonForm.ARRAY),
    Column("mood", "public.mood", ("sad", "so, so", 'with "quotes"', "ünï")),
    Column(
        "place",
        "public.place",
        (
            '("a ""street"", 1",infinity,NaN,"{""a"":\n 1}")',
            "(,,,)",
            '("","0044-03-15 12:00:00+00 BC",1e-36,null)',
            '("\\\\\n)","2026-01-01",1,)',
        ),
        JsonForm.JSON,
    ),
    Column("home", "public.home", ('(x,,,"[\r\n]")',), JsonForm.JSON),
    Column("places", "public.place[]", ('{"(\\"a,\\n\\",,,\\"[\n]\\")",NULL}',), JsonForm.JSON),
    Column("range_of_numbers", "int4range", ("empty", "(,)", "[1,5)", "[,7]")),
    Column("range_of_exact", "numrange", ("[NaN,NaN]", "(1e-36,1e40]", "(-Infinity,)")),
    Column(
        "range_of_instants", "tstzrange", ("[2026-01-01 00:00+02,infinity]", "(,0044-03-15 12:00:00+00 BC)", "empty")
    ),
    Column("range_of_text", "public.text_range", ('["a,b","c""d\\\\)"]', '[""," )"]', "(,)")),
    Column("ranges", "int4multirange", ("{}", "{[1,2),[5,)}")),
    Column("ranges_of_text", "public.text_multirange", ('{["a,}","b"],["c""","d{"]}', "{}")),
    Column("address", "inet", ("::1/64", "192.168.0.1/24", "192.168.0.1")),
    Column("net", "cidr", ("10.0.0.0/8", "2001:db8::/32")),
    Column("card", "macaddr", ("08:00:2b:01:02:03",)),
    Column("card_8", "macaddr8", ("08:00:2b:01:02:03:04:05",)),
    Column("bits", "bit(4)", ("1010", "0000")),
    Column("some_bits", "varbit", ("", "1", "101010101010101")),
    Column("cash", "money", ("-1234.56", "92233720368547758.07", "0.01")),
    Column("lexemes", "tsvector", ("'a':1A 'it''s':2 'b c'", "")),
    Column("lexeme_query", "tsquery", ("'a' & !( 'b c' | 'it''s':*A )", "")),
    Column("key_like", "uuid", ("00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")),
    Column("spot", "point", ("(1e-300,NaN)", "(Infinity,-0)")),
    Column("area", "polygon", ("((0.1,0.2),(1e22,3),(4,5))",)),
    Column("disc", "circle", ("<(1,2),0.30000000000000004>",)),
    Column("wal_place", "pg_lsn", ("16/B374D848",)),
    Column("table_name", "regclass", ("pg_catalog.pg_class", "public.awkward")),
    Column("type_name", "regtype", ("public.mood", "timestamp with time zone")),
    Column("path", "jsonpath", ('$."a"[*] ? (@ > 1.10)',)),
)

EXTENSION_COLUMNS = {
    "citext": Column("any_case", "public.citext", ("Ab", "", 'a"b', "\n")),
    "hstore": Column(
        "pairs", "public.hstore", ('a=>NULL,b=>"",c=>"NULL","d\\"e"=>"x\ny","f=>g"=>"1"', ""), JsonForm.JSON
    ),
    "ltree": Column("tree", "public.ltree", ("a.b.c", "")),
}

MARKUP = Column("markup", "xml", ("<a>x &amp; y</a>", "several <b/> words", "<a\n b='1'>\n\t\"</a>", ""))
"""Where the server was built with libxml."""

ENDLESS_SPAN = Column("endless_span", "interval", ("infinity", "-infinity"))
"""From Postgres 17 on."""

ROWS = max(len(column.values) for column in COLUMNS)
NULL_ROW = ROWS
"""A row in which everything is NULL."""

_GENERATED_AS = "GENERATED ALWAYS AS (left(words, 10) || '!') STORED"


async def available_columns(connection: Connection) -> tuple[Column, ...]:
    """All columns that this server can have; their types are created."""
    await connection.execute(TYPES)
    columns = list(COLUMNS)
    for extension, column in EXTENSION_COLUMNS.items():
        if await connection.fetchval("SELECT true FROM pg_available_extensions WHERE name = $1", extension):
            await connection.execute(f"CREATE EXTENSION {extension} SCHEMA public")
            columns.append(column)
    with suppress(asyncpg.FeatureNotSupportedError):
        await connection.execute("SELECT '<a/>'::xml")
        columns.append(MARKUP)
    if connection.get_server_version().major >= 17:
        columns.append(ENDLESS_SPAN)
    return tuple(columns)


async def create_table(connection: Connection, columns: Sequence[Column], *, partitioned: bool) -> None:
    """Create ``public.awkward``; its only partition has the columns in the reverse order, and had one more."""
    definitions = [f"{column.name} {column.type}" for column in columns]
    definitions += ["id integer NOT NULL", "organization text NOT NULL", f"computed text {_GENERATED_AS}"]
    if partitioned:
        await connection.execute(
            f"CREATE TABLE public.awkward ({', '.join(definitions)}, PRIMARY KEY (id)) PARTITION BY RANGE (id)"
        )
        turned = ", ".join(["junk text", *reversed(definitions)])
        await connection.execute(f"CREATE TABLE public.awkward_all ({turned})")
        await connection.execute("ALTER TABLE public.awkward_all DROP junk")
        await connection.execute(
            "ALTER TABLE public.awkward ATTACH PARTITION public.awkward_all FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"
        )
    else:
        await connection.execute(f"CREATE TABLE public.awkward (junk text, {', '.join(definitions)}, PRIMARY KEY (id))")
        await connection.execute("ALTER TABLE public.awkward DROP junk")


async def fill_table(connection: Connection, columns: Sequence[Column], *, big: bool = True) -> None:
    """Every value of every column, and a row of NULLs; unless ``big``, the biggest are small."""
    for statement in _insertions(columns, big=big):
        await connection.execute(statement)


def awkward_entity(columns: Sequence[Column]) -> Entity:
    return entity(
        "AWKWARD",
        "awkward",
        key=["id"],
        tenant="organization",
        fields=[
            "id",
            *(column.name for column in columns),
            "computed",
            # Expressions have types that only the server knows.
            Field("document_again", expression="document"),
            Field("instant_again", expression="instant"),
            Field("flag_again", expression="flag"),
            Field("length", expression="length(words)"),
        ],
    )


def _insertions(columns: Sequence[Column], *, big: bool) -> Iterator[str]:
    names = ", ".join(column.name for column in columns)
    for row in range(ROWS):
        values = ",\n".join(column.value(row, big=big) for column in columns)
        yield f"INSERT INTO public.awkward (id, organization, {names}) VALUES ({row}, 'o', {values})"
    yield f"INSERT INTO public.awkward (id, organization) VALUES ({NULL_ROW}, 'o')"


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''").replace("\\", "\\\\")
    return f"E'{doubled}'"
