"""Which requests a web page may cause, by the headers that browsers send."""

import pytest

from exportd.api.transport.gate import refuse_page

HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "exportd.example.com"})


def status_of(method: str, *headers: tuple[str, str]) -> int | None:
    """The status of the refusal; None when the request may pass."""
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    refusal = refuse_page(method, encoded, hosts=HOSTS)
    return None if refusal is None else refusal.status_code


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]", "[::1]:8080", "exportd.example.com:443"]
)
def test_a_program_that_names_this_server_passes(method: str, host: str) -> None:
    assert status_of(method, ("host", host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "evil@localhost",
            "localhost@evil.example",
        ),
        *("localhost/", "localhost:", "localhost:x", "localhost:80:80", " localhost", "localhost\t", "[::1", "::1"),
        *("localhost#", "localhost?x", "localhost\\evil", "//localhost", "localhost,evil.example", "löcalhost"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_or_broken_name_is_refused(method: str, host: str) -> None:
    assert status_of(method, ("host", host)) == 400
    assert status_of(method, ("host", host), ("sec-fetch-site", "same-origin")) == 400


def test_the_name_has_to_be_given_once() -> None:
    assert status_of("GET") == 400
    assert status_of("GET", ("host", "localhost"), ("host", "localhost")) == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("mode", ["navigate", "cors", "no-cors", "websocket"])
@pytest.mark.parametrize(("site", "passes"), [("same-origin", True), ("none", True), ("same-site", False),
                                              ("cross-site", False), ("", False), ("invented", False)])  # fmt: skip
def test_a_change_comes_from_a_page_of_this_server(method: str, mode: str, site: str, passes: bool) -> None:
    headers = (("host", "localhost:8080"), ("sec-fetch-site", site), ("sec-fetch-mode", mode))
    assert (status_of(method, *headers) is None) == passes
    # What the page says of itself beside it changes nothing.
    assert (status_of(method, *headers, ("origin", "http://localhost:8080")) is None) == passes


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_of_another_site_may_only_link(method: str) -> None:
    host, site = ("host", "localhost"), ("sec-fetch-site", "cross-site")
    assert status_of(method, host, site, ("sec-fetch-mode", "navigate")) is None
    for mode in ("cors", "no-cors", "same-origin", ""):
        assert status_of(method, host, site, ("sec-fetch-mode", mode)) == 403
    assert status_of(method, host, site) == 403


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("host", "origin", "passes"),
    [
        ("localhost:8080", "http://localhost:8080", True),
        ("localhost", "http://localhost", True),
        ("localhost", "http://localhost:80", True),
        ("exportd.example.com", "https://exportd.example.com", True),
        ("exportd.example.com:443", "https://exportd.example.com", True),
        ("[::1]:8080", "http://[::1]:8080", True),
        ("localhost:8080", "http://localhost:9090", False),  # another program's page on this host
        ("localhost:8080", "http://localhost", False),
        ("exportd.example.com", "https://exportd.example.com:8443", False),
        ("localhost:8080", "http://evil.example:8080", False),
        ("localhost:8080", "http://localhost:8080.evil.example", False),
        ("localhost:8080", "http://user@localhost:8080", False),
        ("localhost:8080", "null", False),
        ("localhost:8080", "file://", False),
        ("localhost:8080", "", False),
    ],
)
def test_an_old_browser_names_the_page_by_its_origin(method: str, host: str, origin: str, passes: bool) -> None:
    assert (status_of(method, ("host", host), ("origin", origin)) is None) == passes
