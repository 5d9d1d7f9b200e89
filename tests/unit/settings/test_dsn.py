import importlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.settings.dsn import read_dsn

SECRET = "S3cr"

connect_utils: Any = importlib.import_module("asyncpg.connect_utils")
"""The driver's own reader, which is private."""


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://u:S3cr#tPass@db/app", '"#", which has to be written as %23'),
        ("postgresql://u:S3cr/tPass@db/app", '"/" in the user or the password, which has to be written as %2F'),
        ("postgresql://u:S3cr?tPass@db/app", '"?" in the user or the password, which has to be written as %3F'),
        ("postgresql://u:S3cr@tPass@db/app", '"@" in the user or the password, which has to be written as %40'),
        ("postgresql://u:S3cr[tPass@db/app", 'write "[" as %5B'),
        ("postgresql://u:S3cr tPass@db/app", "a space, which has to be written as %20"),
        ("postgresql://u:S3cr\ttPass@db/app", "a control character, which has to be written as %09"),
        ("postgresql://u:S3cr℀@db/app", "as their bytes in UTF-8"),
        ("postgresql://u:S3cr", "has no port number"),
        ("postgresql://u:S3cr/app", "has no port number"),
        ("postgresql://u@db:99999/app", "has no port number from 1 to 65535"),
        ("postgresql://u@db:/app", "has no port number"),
        ("postgresql://u@/app?port=S3cr", "has no port number"),
        ("postgresql://u@db/app?S3cr", "that is no name=value"),
        ("host=db password=S3cr", "should be a URL such as"),
        ("mysql://u:S3cr@db/app", "should be a URL such as"),
        ("postgresql://u@db/app?sslmode=S3cr", "sslmode: should be one of disable"),
        ("postgresql://u@db/app?sslmod=require", "sslmod: did you mean sslmode?"),
        ("postgresql://u@db/app?connect_timeout=S3cr", "connect_timeout: should be a whole number"),
        ("postgresql://u@db/app?channel_binding=require", "channel_binding: the driver cannot bind channels"),
        ("postgresql://u@db/app?gssencmode=require", "gssencmode: the driver encrypts by TLS only"),
        ("postgresql://u@db/app?pgbouncer=true", "pgbouncer: it says that this is a transaction pooler"),
        ("postgresql://u@db/app?schema=public", "schema: it is another program's"),
        ("postgresql://u@db/app?hostaddr=1.2.3.4", "hostaddr: write the address as the host"),
        ("postgresql://u@db/app?target_session_attrs=standby", "target_session_attrs: exportd writes"),
        ("postgresql://u@db/app?sslrootcert=system", "sslrootcert: write the file"),
        ("postgresql://u@db/app?client_encoding=LATIN1", "client_encoding: exportd reads UTF-8"),
        ("postgresql://u@db/app?require_auth=scram-sha-256", "require_auth: the driver cannot insist"),
        ("postgresql://" + "x" * 5000, "is longer than"),
    ],
)
def test_what_cannot_be_used_is_named_without_a_secret(dsn: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        read_dsn(dsn)
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "tPass" not in str(raised.value)


@pytest.mark.parametrize(
    "option",
    [
        *(
            "channel_binding=prefer",
            "channel_binding=disable",
            "connect_timeout=10",
            "keepalives=1",
            "gssencmode=disable",
        ),
        *(
            "keepalives_idle=30",
            "keepalives_interval=5",
            "keepalives_count=3",
            "tcp_user_timeout=1000",
            "pgbouncer=false",
        ),
        *(
            "sslsni=1",
            "sslcompression=0",
            "fallback_application_name=x",
            "client_encoding=UTF8",
            "load_balance_hosts=random",
        ),
        *("target_session_attrs=read-write", "target_session_attrs=primary", "target_session_attrs=any"),
        *("application_name=mine", "sslmode=verify-full", "sslmode=verify-full&channel_binding=require"),
    ],
)
def test_what_changes_nothing_is_not_handed_to_the_server(option: str) -> None:
    read = read_dsn(f"postgresql://u:p%40ss@db:5433/app?{option}")
    assert (read.hosts, read.database, read.user, read.has_password) == ("db:5433", "app", "u", True)
    sent = read.text.partition("?")[2]
    kept = {"target_session_attrs", "application_name", "sslmode"}
    assert {pair.partition("=")[0] for pair in sent.split("&") if pair} <= kept
    assert "u:p%40ss@db:5433/app" in read.text


@pytest.mark.parametrize(
    ("dsn", "crosses", "verifies"),
    [
        ("postgresql://u@db/app", True, False),
        ("postgresql://u@db/app?sslmode=require", True, False),
        ("postgresql://u@db/app?sslmode=verify-full", True, True),
        ("postgresql://u@/app?host=/run/postgresql", False, False),
        ("postgresql://u@/app?host=db", True, False),
        ("postgresql://u@localhost:5432/app", False, False),
        ("postgresql://u@127.0.0.1/app", False, False),
        ("postgresql://u@[::1]:5432/app", False, False),
        ("postgresql://u@[2001:db8::1]:5432/app", True, False),
        ("postgresql://u@localhost:1,db:2/app", True, False),
        ("postgresql:///app", False, False),
    ],
)
def test_a_password_may_cross_the_network(dsn: str, crosses: bool, verifies: bool) -> None:
    read = read_dsn(dsn)
    assert (read.crosses_network, read.verifies_server) == (crosses, verifies)


def test_the_time_to_connect() -> None:
    assert read_dsn("postgresql://u@db/app?connect_timeout=7").connect_timeout_s == 7
    assert read_dsn("postgresql://u@db/app?connect_timeout=99999").connect_timeout_s == 300
    assert read_dsn("postgresql://u@db/app?connect_timeout=0").connect_timeout_s is None
    assert read_dsn("postgresql://u@db/app").connect_timeout_s is None


@given(st.text(max_size=30), st.sampled_from(["", "/app", "?sslmode=require"]))
def test_no_text_of_a_password_ends_in_anything_but_a_sentence_without_it(secret: str, rest: str) -> None:
    password = f"begin{secret}end"
    try:
        read = read_dsn(f"postgresql://ann:{password}@db{rest}")
    except ValueError as error:
        assert "begin" not in str(error)
    else:
        assert read.user == "ann"
        assert read.has_password
        assert "begin" not in repr(read)
        # And the driver reads the same.
        addresses, parameters, *_ = connect_utils._parse_connect_dsn_and_args(
            dsn=read.text, host=None, port=None, user=None, password=None, passfile=None, database=None, ssl=None,
            service=None, servicefile=None, direct_tls=None, server_settings=None, target_session_attrs=None,
            krbsrvname=None, gsslib=None,
        )  # fmt: skip
        assert addresses[0][0] == "db"
        assert parameters.user == "ann"
