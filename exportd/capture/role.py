"""The daemon's role in Postgres: what it needs, and nothing else. Pure: SQL for a DBA to read and run."""

from collections.abc import Iterable

from exportd.database.quoting import comment, dollar_quoted, identifier, literal, table
from exportd.model.change_log import SCHEMA
from exportd.model.entity import TableName


def role_sql(role: str, *, database: str, tables: Iterable[TableName]) -> str:
    """A script that makes the role, or gives it what it lacks; to be run by a superuser in ``database``."""
    wanted = sorted(set(tables), key=lambda relation: (relation.schema, relation.name))
    schemas = sorted({relation.schema for relation in wanted})
    name, schema = identifier(role), identifier(SCHEMA)
    missing = f"NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal(role)})"
    made = f"""BEGIN
  IF {missing} THEN
    CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
  END IF;
END"""
    statements = [
        f"DO {dollar_quoted(made)}",
        f"GRANT CONNECT ON DATABASE {identifier(database)} TO {name}",
        f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {name}",
        *(f"GRANT USAGE ON SCHEMA {identifier(used_schema)} TO {name}" for used_schema in schemas),
        *(f"GRANT SELECT ON TABLE {table(relation)} TO {name}" for relation in wanted),
    ]
    before = (
        f"The role of exportd in the database {identifier(database)}. It reads the tables of the catalog and owns",
        f"the schema {SCHEMA}; it writes no table of the application. May be run again, such as for a new entity.",
        "Triggers on the tables are made by their owner: see `exportd capture install --dry-run`.",
    )
    after = (
        f"Not done here. A password, if it needs one, by psql: \\password {name}",
        f"That metrics show the age of others' transactions: GRANT pg_read_all_stats TO {name};",
    )
    return "\n".join(
        [
            *map(comment, before),
            "BEGIN;",
            *(f"{statement};" for statement in statements),
            "COMMIT;",
            *map(comment, after),
            "",
        ]
    )
