"""``exportd role``: the daemon's role in Postgres."""

from cyclopts import App

from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath, load
from exportd.cli.output import print_line

app = App(name="role")


@app.command
def sql(*, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Print the SQL that makes the DSN's role, with the rights that it needs and no others, for a DBA."""
    from exportd.capture.role import role_sql
    from exportd.database.address import Address
    from exportd.model.errors import SettingsError

    settings, catalog = load(config)
    address = Address.of(settings.database.dsn)
    if address.user is None or address.database is None:
        raise SettingsError.of(
            "the DSN should name the user and the database, such as postgresql://exportd@db.example.com/product",
            where="database.dsn",
        )
    tables = [each.table for each in catalog.entities.values()]
    print_line(role_sql(address.user, database=address.database, tables=tables).rstrip("\n"))
