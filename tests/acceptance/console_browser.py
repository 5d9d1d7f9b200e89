"""A browser without JavaScript: it follows links and redirects, keeps cookies, and sends forms as they stand."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

import httpx


@dataclass
class PageForm:
    """A form of a page, with the values that it has before anyone writes into it. ``buttons`` are those that work."""

    method: str
    action: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: dict[str, tuple[str, str] | None] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forms: list[PageForm] = []
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self._button: tuple[tuple[str, str] | None, bool] | None = None
        self._select: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "form":
            self.forms.append(PageForm(values.get("method", "get"), values.get("action", "")))
        elif tag == "button" and self.forms:
            named = (values["name"], values["value"]) if "name" in values else None
            self._button = named, "disabled" in values
        elif tag == "select":
            self._select = values["name"]
        elif tag == "option" and self._select and "selected" in values:
            self.forms[-1].fields.append((self._select, values["value"]))
        elif tag == "input" and "name" in values and self.forms and _is_sent(values):
            self.forms[-1].fields.append((values["name"], values.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None
        elif tag == "button":
            self._button = None

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._button is not None and not self._button[1]:
            self.forms[-1].buttons[data.strip()] = self._button[0]


def _is_sent(attributes: Mapping[str, str]) -> bool:
    return attributes.get("type") not in {"checkbox", "radio"} or "checked" in attributes


@dataclass(frozen=True)
class BrowserPage:
    """What a browser shows."""

    answer: httpx.Response
    links: list[str]
    forms: list[PageForm]
    text: str
    tags: set[str]

    @classmethod
    def of(cls, answer: httpx.Response) -> "BrowserPage":
        reader = _Reader()
        reader.feed(answer.text)
        return cls(answer, reader.links, reader.forms, " ".join(" ".join(reader.texts).split()), reader.tags)

    def form_with(self, button: str) -> PageForm:
        """The form that has this button."""
        (found,) = [form for form in self.forms if button in form.buttons]
        return found


@dataclass
class ConsoleBrowser:
    """A browser at a server."""

    client: httpx.Client

    def open(self, address: str) -> BrowserPage:
        return BrowserPage.of(self.client.get(address, headers={"sec-fetch-site": "same-origin"}))

    def press(self, page: BrowserPage, button: str, filled: Mapping[str, str | list[str]] | None = None) -> BrowserPage:
        """Press a button of a page, after some fields were filled in (a list: those are ticked, and no other)."""
        form = page.form_with(button)
        changed = filled or {}
        sent = [(name, value) for name, value in form.fields if name not in changed]
        for name, value in changed.items():
            sent += [(name, one) for one in ([value] if isinstance(value, str) else value)]
        if (named := form.buttons[button]) is not None:
            sent.append(named)
        address = urljoin(str(page.answer.url), form.action)
        if form.method == "get":
            return self.open(f"{address.partition('?')[0]}?{urlencode(sent)}")
        answer = self.client.post(
            address,
            data={name: [value for known, value in sent if known == name] for name, _ in sent},
            headers={"sec-fetch-site": "same-origin"},
        )
        return BrowserPage.of(answer)

    def crawl(self, start: str) -> Iterator[BrowserPage]:
        """Every page that links lead to, once."""
        waiting, seen = [start], {start}
        while waiting:
            page = self.open(waiting.pop())
            yield page
            if page.answer.headers["content-type"].startswith("text/html"):
                for link in page.links:
                    there = urlsplit(urljoin(str(page.answer.url), link))._replace(fragment="").geturl()
                    if there not in seen and there.startswith(str(self.client.base_url)):
                        seen.add(there)
                        waiting.append(there)


@contextmanager
def browser_at(base_url: str) -> Iterator[ConsoleBrowser]:
    """A browser with an empty jar of cookies."""
    with httpx.Client(base_url=base_url, follow_redirects=True, timeout=20.0, trust_env=False) as client:
        yield ConsoleBrowser(client)
