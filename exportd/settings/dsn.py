"""Reads a DSN as libpq does, and converts it for the driver. Pure. Sentences leave out everything that may be a secret.

Options that libpq supports and the driver does not are dropped if that changes nothing, and refused by name otherwise.
The driver would send them to the server as settings, and the server's refusal would not mention the DSN.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from exportd.settings.sentences import closest

MAX_DSN_LENGTH = 4096

_SCHEMES = ("postgresql://", "postgres://")
_EXAMPLE = 'should be a URL such as "postgresql://exportd@db.example.com:5432/product"'
_BLANKS = re.compile(r"[\x00-\x20\x7f]")
_MAX_PORT = 65535
_MAX_CONNECT_TIMEOUT_S = 300.0

_TAKEN = frozenset(
    {"host", "port", "dbname", "database", "user", "password", "passfile", "service", "sslmode", "sslcert", "sslkey"}
    | {"sslrootcert", "sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version"}
    | {"target_session_attrs", "krbsrvname", "gsslib", "options", "application_name"}
)
"""The options that the driver supports. exportd sets ``application_name`` itself."""

_DROPPED = frozenset(
    {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslcompression"}
    | {"sslsni", "fallback_application_name", "gssdelegation", "load_balance_hosts", "connect_timeout"}
)
"""Options without effect here, because exportd has its own timeouts and keep-alives."""

_HARMLESS_VALUES: Mapping[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "sslcertmode": frozenset({"disable", "allow"}),
    "client_encoding": frozenset({"utf8", "utf-8", "auto"}),
    "pgbouncer": frozenset({"false"}),
    "replication": frozenset({"false", "off", "no", "0"}),
}
"""Options that have no effect with these values (in lower case), and are refused with others."""

_REFUSED: Mapping[str, str] = {
    "channel_binding": "the driver cannot bind channels; take it out, and write sslmode=verify-full, which proves the "
    "server too (with sslmode=verify-full it may stay)",
    "gssencmode": "the driver encrypts by TLS only; take it out, and write sslmode=verify-full",
    "sslcertmode": "the driver cannot insist on it; take it out",
    "client_encoding": "exportd reads UTF-8, whatever the database's encoding is; take it out",
    "pgbouncer": "it says that this is a transaction pooler; connect directly to Postgres, and take it out",
    "replication": "exportd needs an ordinary connection; take it out",
    "require_auth": "the driver cannot insist on it; take it out, and demand it in pg_hba.conf",
    "requirepeer": "the driver cannot insist on it; take it out",
    "hostaddr": "write the address as the host",
    "requiressl": "it is obsolete; write sslmode=verify-full",
    "ssl": "write sslmode=verify-full",
    "sslkeylogfile": "the driver writes no keys; take it out",
    **dict.fromkeys(
        (
            "schema",
            "connection_limit",
            "pool_timeout",
            "socket_timeout",
            "sslaccept",
            "sslidentity",
            "statement_cache_size",
        ),
        "it is another program's, and no option of Postgres; take it out",
    ),
}

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFYING = frozenset({"verify-ca", "verify-full"})
_SESSIONS = frozenset({"any", "read-write", "primary"})


@dataclass(frozen=True, slots=True)
class Dsn:
    """The content of a DSN. ``text`` is for the driver. ``hosts`` are as written, with ports; None for the default."""

    text: str = field(repr=False)
    hosts: str | None
    database: str | None
    user: str | None
    has_password: bool
    options: Mapping[str, str] = field(repr=False)
    connect_timeout_s: float | None = None

    @property
    def crosses_network(self) -> bool:
        """Whether it names a host that is not this machine."""
        hosts = (self.hosts or "").split(",")
        return any(host and not host.startswith("/") and not _is_here(host) for host in hosts)

    @property
    def verifies_server(self) -> bool:
        """Whether the connection is encrypted to a server that has proved who it is."""
        return self.options.get("sslmode") in _VERIFYING


def read_dsn(text: str) -> Dsn:
    """Read a DSN. Raises ValueError with a sentence that contains none of its values."""
    if not text.startswith(_SCHEMES):
        raise ValueError(_EXAMPLE)
    if len(text) > MAX_DSN_LENGTH:
        raise ValueError(f"is longer than {MAX_DSN_LENGTH} characters")
    _check_characters(text)
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(
            'has a character in the user, the password or the host that has to be escaped: write "[" as %5B, "]" as '
            "%5D, and letters of other alphabets as their bytes in UTF-8, such as %C3%A9"
        ) from None
    options = _options(parts.query)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    for host in (*hosts.split(","), *(f":{port}" for port in options.get("port", "").split(",") if port)):
        _check_port(host)
    return Dsn(
        text=parts._replace(query=urlencode(_driver_options(options), quote_via=quote)).geturl(),
        hosts=unquote(hosts) or options.get("host"),
        database=unquote(parts.path.removeprefix("/")) or options.get("dbname") or options.get("database"),
        user=unquote(user) or options.get("user"),
        has_password=bool(password or options.get("password")),
        options=options,
        connect_timeout_s=_connect_timeout_s(options),
    )


def check_dsn(dsn: str) -> str:
    """Check a DSN. Raises ValueError when the driver cannot use it. The sentence does not repeat it, because it may
    contain a password.
    """
    read_dsn(dsn)
    return dsn


def _check_characters(text: str) -> None:
    """Find unescaped characters of a password that split the DSN into other parts than meant."""
    rest = text.partition("://")[2]
    if blank := _BLANKS.search(text):
        what = "a space" if blank[0] == " " else "a control character"
        raise ValueError(f"has {what}, which has to be written as {_escaped(blank[0])} (in the password, say)")
    if "#" in rest:
        raise ValueError('has a "#", which has to be written as %23 (in the password, say)')
    end = re.search(r"[/?]", rest)
    authority = rest if end is None else rest[: end.start()]
    if authority.count("@") > 1:
        raise ValueError('has an "@" in the user or the password, which has to be written as %40')
    if end is None or "@" in authority:
        return
    # An "@" after the end of the hosts belongs to a password with an unescaped character.
    beyond = rest[end.start() :]
    path = beyond.partition("?")[0] if end[0] == "/" else beyond
    name, colon, port = authority.rpartition(":")
    if "@" in path and authority and (end[0] == "/" or (colon and name and not port.isdecimal())):
        raise ValueError(f'has a "{end[0]}" in the user or the password, which has to be written as {_escaped(end[0])}')


def _options(query: str) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, strict_parsing=True, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise ValueError('has a part after "?" that is no name=value; separate them by "&"') from None
    options = dict(pairs)
    for name, value in options.items():
        if sentence := _refusal(name, value, options):
            raise ValueError(f"has the option {name}: {sentence}")
    return options


def _refusal(name: str, value: str, options: Mapping[str, str]) -> str | None:
    """Why an option is refused; None for an allowed one."""
    if name in _TAKEN or name in _DROPPED:
        return _wrong_value(name, value)
    bound = name == "channel_binding" and options.get("sslmode") == "verify-full"
    if bound or value.lower() in _HARMLESS_VALUES.get(name, ()):
        return None
    if name in _REFUSED:
        return _REFUSED[name]
    # Anything else is a setting of the server, which knows it or refuses it by its name.
    meant = closest(name, _TAKEN | _DROPPED | _HARMLESS_VALUES.keys())
    return f"did you mean {meant}?" if meant else None


def _wrong_value(name: str, value: str) -> str | None:
    match name:
        case "sslmode" if value not in _SSL_MODES:
            return f"should be one of {', '.join(_SSL_MODES)}"
        case "target_session_attrs" if value not in _SESSIONS:
            return 'exportd writes its own tables; write "primary", or leave it out'
        case "sslrootcert" if value == "system":
            return "write the file of the system's certificates, such as /etc/ssl/certs/ca-certificates.crt"
    return None


def _driver_options(options: Mapping[str, str]) -> dict[str, str]:
    without = _DROPPED | _HARMLESS_VALUES.keys()
    return {name: value for name, value in options.items() if name not in without and value}


def _connect_timeout_s(options: Mapping[str, str]) -> float | None:
    """In seconds; None for libpq's "as long as it takes", which exportd does not have."""
    text = options.get("connect_timeout", "")
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError("has the option connect_timeout: should be a whole number of seconds")
    return min(float(text), _MAX_CONNECT_TIMEOUT_S) if int(text) > 0 else None


def _check_port(host: str) -> None:
    """Check the port of ``host:port`` or ``[v6]:port``. The sentence does not repeat the value, which may be a password
    without its user.
    """
    _, colon, port = host.rpartition("]")[2].rpartition(":")
    if colon and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) <= _MAX_PORT):
        raise ValueError(
            f'has no port number from 1 to {_MAX_PORT} after the ":" of a host; a password stands before an "@", and '
            '"@", ":" and "/" in it have to be escaped'
        )


def _escaped(character: str) -> str:
    return f"%{ord(character):02X}"


def _is_here(host: str) -> bool:
    name = host.rpartition("]")[0].removeprefix("[") or host.partition(":")[0]
    return name in {"localhost", "::1", ""} or name.startswith("127.")


def check_reader_dsn(dsn: str) -> str:
    """Check a DSN as ``check_dsn`` does; an empty one is allowed."""
    return check_dsn(dsn) if dsn else dsn


def with_user(dsn: str, user: str) -> str:
    """The same DSN for another user."""
    parts = urlsplit(dsn)
    options = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != "user"]
    before, _, hosts = parts.netloc.rpartition("@")
    _, colon, password = before.partition(":")
    login = f"{quote(user, safe='')}{colon}{password}@{hosts}"
    return urlunsplit(parts._replace(netloc=login, query=urlencode(options, safe="/")))


@dataclass(frozen=True, slots=True)
class Address:
    """The address in a DSN, for people to read, without the password. None stands for the driver's defaults."""

    host: str | None
    database: str | None
    user: str | None

    @classmethod
    def of(cls, dsn: str) -> "Address":
        """Read a DSN. A malformed one raises no error and gives an empty address, because a part of it may be a
        secret.
        """
        try:
            read = read_dsn(dsn)
        except ValueError:
            return cls(None, None, None)
        return cls(read.hosts, read.database, read.user)

    def __str__(self) -> str:
        database = f"database {self.database}" if self.database else "the default database"
        host = f"on {self.host}" if self.host else "on the default host"
        user = f"as {self.user}" if self.user else "as the default user"
        return f"{database} {host} {user}"
