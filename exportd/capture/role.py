"""The daemon's role in Postgres: what it needs, and nothing else. Pure: SQL for a DBA to read and run."""

from collections.abc import Iterable

from exportd.database.quoting import dollar_quoted, identifier, literal, table
from exportd.model.change_log import SCHEMA
from exportd.model.entity import TableName


def role_sql(role: str, *, database: str, tables: Iterable[TableName]) -> str:
    """A script that makes the role, or gives it what it lacks; to be run by a superuser in ``database``."""
    wanted = sorted(set(tables), key=lambda relation: (relation.schema, relation.name))
    schemas = sorted({relation.schema for relation in wanted})
    name, schema = identifier(role), identifier(SCHEMA)
    statements = [
        f"""DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal(role)}) THEN
    CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
  END IF;
END $$""",
        f"GRANT CONNECT ON DATABASE {identifier(database)} TO {name}",
        f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {name}",
        *(f"GRANT USAGE ON SCHEMA {identifier(used_schema)} TO {name}" for used_schema in schemas),
        *(f"GRANT SELECT ON TABLE {table(relation)} TO {name}" for relation in wanted),
        *([_grants_on_members(role, wanted)] if wanted else []),
    ]
    script = "".join(f"{statement};\n" for statement in statements)
    return (
        f"-- The role of exportd in the database {identifier(database)}. It reads the tables of the catalog and owns\n"
        f"-- the schema {SCHEMA}; it writes no table of the application. May be run again, for new entities and\n"
        f"-- partitions.\n"
        f"-- Triggers on the tables are made by their owner: see `exportd capture install --dry-run`.\n"
        f"BEGIN;\n{script}COMMIT;\n"
        f"-- Not done here. A password, if it needs one, by psql: \\password {name}\n"
        f"-- That metrics show the age of others' transactions: GRANT pg_read_all_stats TO {name};\n"
    )


def _grants_on_members(role: str, tables: Iterable[TableName]) -> str:
    """Partitions and inheritance children, as they are when the script is run.

    An export reads them by their root's right. But where one is truncated by itself, its rows are kept for the export
    only if the role may read it.
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
