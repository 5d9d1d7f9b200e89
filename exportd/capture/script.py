"""Writes the scripts that a DBA reads and runs: one for the daemon's roles, one that installs capture with the fewest
rights for each statement. Pure.

The roles get only the rights that they need.

A DBA's session has rights that exportd's role does not have, and that role controls the schema exportd: it may have put
a trigger on one of its tables, or an index on an expression. So every statement on that schema runs as exportd's role.
The DBA's own rights are used only for the locks and triggers on the application's tables. SET ROLE does not confine
code that runs, which may RESET it. Therefore the script of capture contains only DDL, so that no statement runs a
trigger.
"""

from collections.abc import Iterable, Iterator, Sequence

from exportd.database.quoting import comment, dollar_quoted, identifier, literal, table
from exportd.model.change_log import SCHEMA, log_table
from exportd.model.entity import EntityCode, TableName

_ATTRIBUTES = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"

_ABOUT_ONE_LOGIN = (
    "One role does everything. Where owners of tables are not trusted, a second one should read: set",
    "database.reader_user in the configuration, and run this again (see docs/security.md).",
)

_WITH_OWN_RIGHTS = ("LOCK TABLE ", "CREATE OR REPLACE TRIGGER ", "DROP TRIGGER ")
"""The beginnings of statements on the application's tables."""

_BEGIN = (
    "BEGIN",
    "SET LOCAL lock_timeout = '2s'",
    # Names are qualified, so that no operator or type of another schema is found instead of that of Postgres.
    "SET LOCAL search_path = pg_catalog, pg_temp",
)


def role_sql(
    role: str,
    *,
    database: str,
    tables: Iterable[TableName],
    reader: str | None = None,
    entities: Iterable[EntityCode] = (),
) -> str:
    """A script that creates the roles, or grants them what they lack. A superuser runs it in ``database``.

    ``role`` owns the schema exportd. ``reader`` reads the ``tables`` and the existing change logs of ``entities``.
    Later logs are granted when they are created.
    """
    wanted = sorted(set(tables), key=lambda relation: (relation.schema, relation.name))
    schemas = sorted({relation.schema for relation in wanted})
    roles = [role] if reader is None or reader == role else [role, reader]
    names = [identifier(name) for name in roles]
    listed = ", ".join(names)
    statements = [
        # So that nothing of another schema is found instead of what is Postgres's own.
        "SET LOCAL search_path = pg_catalog, pg_temp",
        *map(_create_role, roles),
        f"GRANT CONNECT ON DATABASE {identifier(database)} TO {listed}",
        f"CREATE SCHEMA IF NOT EXISTS {identifier(SCHEMA)} AUTHORIZATION {identifier(role)}",
        *(f"GRANT USAGE ON SCHEMA {identifier(used_schema)} TO {listed}" for used_schema in schemas),
        *(f"GRANT SELECT ON TABLE {table(relation)} TO {listed}" for relation in wanted),
        *([_grants_on_members(name, wanted) for name in roles] if wanted else []),
        *(_grants_on_logs(names[1], sorted(entities)) if len(names) > 1 else ()),
    ]
    after = [
        *(f"Not done here. A password, if it needs one, by psql: \\password {name}" for name in names),
        f"That metrics show the age of others' transactions: GRANT pg_read_all_stats TO {names[0]};",
        f"That pg_dump works for a role that is no superuser: GRANT {names[0]} TO that role, or leave the schema",
        f"{SCHEMA} out of its dumps by -N {SCHEMA} (see docs/upgrading.md).",
    ]
    script = [*map(comment, _heading(database, names)), "BEGIN;", *(f"{statement};" for statement in statements)]
    return "\n".join([*script, "COMMIT;", *map(comment, after), ""])


def grant_on_log(reader: str, log: TableName) -> tuple[str, str]:
    """The statements by which the owner of a change log lets ``reader`` read it."""
    role = identifier(reader)
    return (
        f"GRANT USAGE ON SCHEMA {identifier(log.schema)} TO {role}",
        f"GRANT SELECT ON TABLE {table(log)} TO {role}",
    )


def _heading(database: str, names: Sequence[str]) -> Iterator[str]:
    yield f"The roles of exportd in the database {identifier(database)}. May be run again, such as for a new entity."
    yield f"{names[0]} owns the schema {SCHEMA}. It reads the catalog's tables: triggers on TRUNCATE run as it."
    if len(names) > 1:
        yield f"{names[1]} exports: it reads the tables of the catalog and their change logs, and nothing else."
    else:
        yield from _ABOUT_ONE_LOGIN
    yield "None of them writes a table of the application."
    yield "Triggers on the tables are made by their owner: see `exportd capture install --dry-run`."


def _create_role(role: str) -> str:
    body = f"""BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal(role)}) THEN
    CREATE ROLE {identifier(role)} {_ATTRIBUTES};
  END IF;
END"""
    return f"DO {dollar_quoted(body)}"


def _grants_on_logs(reader: str, entities: Sequence[EntityCode]) -> Iterator[str]:
    """The grants, log by log: default privileges would apply to all tables of the schema, including the one with
    credentials.
    """
    yield f"GRANT USAGE ON SCHEMA {identifier(SCHEMA)} TO {reader}"
    for entity in entities:
        log = table(log_table(entity))
        body = f"""BEGIN
  IF pg_catalog.to_regclass({literal(log)}) IS NOT NULL THEN
    GRANT SELECT ON TABLE {log} TO {reader};
  END IF;
END"""
        yield f"DO {dollar_quoted(body)}"


def _grants_on_members(role: str, tables: Iterable[TableName]) -> str:
    """The grants on the partitions and inheritance children that exist when the script is run.

    An export reads them with the right on their root. But when one of them is truncated directly, its rows can be kept
    for the export only if the role may read it.
    """
    roots = ", ".join(f"{literal(table(relation))}::pg_catalog.regclass" for relation in tables)
    body = f"""
DECLARE
  member record;
BEGIN
  FOR member IN
    WITH RECURSIVE tree (oid) AS (
      SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = ANY (ARRAY[{roots}])
      UNION
      SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
    )
    SELECT n.nspname AS schema_name, c.relname AS table_name
    FROM tree AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  LOOP
    EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I', member.schema_name, {literal(role)});
    EXECUTE pg_catalog.format('GRANT SELECT ON TABLE %I.%I TO %I', member.schema_name, member.table_name,
                              {literal(role)});
  END LOOP;
END
"""
    return f"DO {dollar_quoted(body)}"


def with_least_rights(statements: Sequence[str], role: str) -> tuple[str, ...]:
    """The statements, with a SET ROLE or RESET ROLE before each change of rights. At the end the role is the one of the
    beginning.
    """
    return tuple(_with_roles(statements, f"SET LOCAL ROLE {identifier(role)}"))


def _with_roles(statements: Sequence[str], assume: str) -> Iterator[str]:
    assumed = False
    for statement in statements:
        wanted = not statement.startswith(_WITH_OWN_RIGHTS)
        if wanted != assumed:
            yield assume if wanted else "RESET ROLE"
            assumed = wanted
        yield statement
    if assumed:
        yield "RESET ROLE"


def without_rows(statements: Sequence[str], triggers: Sequence[str]) -> tuple[str, ...]:
    """The statements without those that write a row, because these would run triggers that exportd's role has created.

    Such a row says that the log may lack changes. Instead, all ``triggers`` are created again, which makes all
    positions invalid as any change of triggers does.
    """
    kept = tuple(statement for statement in statements if not statement.startswith("INSERT INTO "))
    return kept if len(kept) == len(statements) else (*kept, *(one for one in triggers if one not in kept))


def script_of(entity: str, findings: Sequence[str], statements: Sequence[str]) -> str:
    """The script that completes one entity's capture, in one transaction, after a comment that says what is wrong."""
    lines = [comment(f"{entity}: {'; '.join(findings) or 'whole, nothing to do'}")]
    if statements:
        lines += [f"{statement};" for statement in (*_BEGIN, *statements, "COMMIT")]
        lines.append("")
    return "\n".join(lines)
