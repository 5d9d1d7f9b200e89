"""Creates the demo's tables in the schema public."""

from importlib import resources

from exportd.database.connector import Connection

_SCHEMA = (resources.files(__package__) / "schema.sql").read_text(encoding="utf-8")


async def create_tables(connection: Connection) -> None:
    """Creates the 20 tables of ``schema.sql``, all or none; fails when one of them exists."""
    async with connection.transaction():
        path = await connection.fetchval("SELECT current_setting('search_path')")
        await connection.execute("SET LOCAL search_path = public")
        await connection.execute(_SCHEMA)
        # The caller may be inside a transaction of its own.
        await connection.execute("SELECT set_config('search_path', $1, true)", path)
