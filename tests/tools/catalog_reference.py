"""Makes the reference of the catalog file, docs/catalog.md, from its schema.

A test compares the file in the repository with what this makes, and loads its example.
"""

from exportd.catalog.entries import CatalogEntry, FieldEntry
from tests.tools.configuration_reference import key_table

EXAMPLE = """\
[[entity]]
code = "ACCOUNTS"
label = "Accounts"
type_token = "account"
table = "public.accounts"
key = ["id"]
tenant = "organization_id"
modified = "updated_at"
fields = [
  "id",
  { name = "dtCreated", column = "created_at", type = "string", format = "date-time" },
  { name = "parentAccountId", type = "string", format = "uuid", reference = "ACCOUNTS" },
  { name = "searchName", expression = "lower(name)", type = "string" },
]

[[entity]]
code = "COUNTRIES"
label = "Countries"
type_token = "country"
table = 'reference."Countries"'
key = ["iso_code"]
tenant = false
"""

_PAGE = """\
# The catalog

The catalog says what can be exported: which kind of record (*entity*) is which table, with which fields. It is a TOML
file, named by `catalog.file` in the configuration, and read as strictly: an unknown key is an error, and all problems
are reported at once with their lines.

```toml
{example}```

`exportd catalog draft` proposes such a file for any database: every table with a primary key, fields in camelCase,
foreign keys as references, and as `modified` a column with such a name as `updated_at` or `dtLastModified`. With
`--tenant-column organization_id` each entity gets that tenant, and tables that lack the column are left out with a
comment; without it every entity says `tenant = false`. `exportd check` compares the file with the database.

## `[[entity]]`

{entity_keys}
## Items of `fields`

An item is a table of these keys, or just a name in quotes. Every record has `deleted` as its last field, without
naming it.

{field_keys}
## Exports with a start date

An export without a schedule may have a start date. It then holds of each entity the rows whose `modified` is that
instant or later, as they are when the job reads, and no deletions. Every entity that is asked for must name `modified`;
otherwise the export is refused. A schedule does not look at `modified`, so adding or changing it makes no run complete.

- A row whose `modified` is NULL is in every such export: it may have changed at any time. So is `infinity`;
  `-infinity` is in none.
- A `timestamp` is taken as UTC, whatever the time zone of a session, a role or the database.
- A `date` stands for its whole day in UTC: the day of the start date is in the export.
- exportd believes the column. It does not see a change that leaves the column alone, nor a transaction that commits
  after the export with an earlier time. For changes without gaps use a schedule.
- An index on the column is used where it helps, and not needed.

## What the database must be like

- The table is an ordinary one, a partitioned one, or the top of an inheritance tree: no view, no foreign, temporary or
  unlogged table, no single partition, no table of the system.
- The key's columns are `NOT NULL`, and a primary key or a valid, not partial unique index is on exactly
  these columns. The types of key and tenant can be compared (they have a btree operator class); the tenant is no array.
- The role of the DSN has `USAGE` of the schema and `SELECT` on the table, and row level security hides nothing from it.
- An expression uses nothing but the columns of its row: no sub-select, no aggregate, no function like `random()`.
  Functions outside `pg_catalog` are named with their schema.
- A virtual generated column (Postgres 18) is exported by its expression, because deleted rows do not have its value.
- A declared `type` fits the column: `string` texts, times, UUIDs, enums, arrays; `integer`; `float` all numbers;
  `boolean`; `json` also texts that hold JSON.

This page is made from the schema by `make docs`; do not edit it by hand.
"""


def render() -> str:
    """The reference as Markdown."""
    return _PAGE.format(example=EXAMPLE, entity_keys=key_table(CatalogEntry), field_keys=key_table(FieldEntry))
