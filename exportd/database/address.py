"""Where a DSN points, for people to read: host, database and user, never the password."""

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """What a DSN says of where to connect, and as whom. None is what it leaves to the driver's defaults."""

    host: str | None
    database: str | None
    user: str | None

    @classmethod
    def of(cls, dsn: str) -> "Address":
        """Reads a DSN. A malformed one raises nothing: this is for messages, the driver will complain."""
        try:
            parts = urlsplit(dsn)
            options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        except ValueError:
            return cls(None, None, None)
        # Not parts.port: several hosts may be given, with a port each.
        hosts = parts.netloc.rpartition("@")[2]
        return cls(
            host=unquote(hosts) or options.get("host"),
            database=unquote(parts.path.removeprefix("/")) or options.get("dbname") or options.get("database"),
            user=unquote(parts.username or "") or options.get("user"),
        )

    def __str__(self) -> str:
        database = f"database {self.database}" if self.database else "the default database"
        host = f"on {self.host}" if self.host else "on the default host"
        user = f"as {self.user}" if self.user else "as the default user"
        return f"{database} {host} {user}"
