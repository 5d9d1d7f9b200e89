"""``exportd catalog``: which tables are exported as which entities."""

from typing import Annotated

import anyio
from cyclopts import App, Parameter

from exportd.cli.output import print_line

app = App(name="catalog")


@app.command
def draft(
    *,
    dsn: Annotated[str, Parameter(env_var="EXPORTD_DATABASE_DSN", help="The database, as a URL.")],
    tenant_column: Annotated[
        str | None, Parameter(help="The column that holds the organization; tables without it are left out.")
    ] = None,
    schema: Annotated[tuple[str, ...], Parameter(help="The schemas to look into.")] = ("public",),
) -> None:
    """Print a catalog of every table that can be exported: primary key, camelCase names, references."""
    anyio.run(_draft, dsn, tenant_column, schema)


async def _draft(dsn: str, tenant_column: str | None, schemas: tuple[str, ...]) -> None:
    from exportd.catalog.drafter import draft as draft_catalog
    from exportd.database.connector import Connector

    async with Connector(dsn).connection("catalog draft") as connection:
        print_line(await draft_catalog(connection, tenant_column=tenant_column, schemas=schemas))
