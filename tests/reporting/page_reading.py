"""Read a page as a browser would: elements, attributes and visible text."""

import json
import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr", "rect", "path", "circle"}


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.elements, self.open, self.texts, self.problems = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> closes {self.open[-3:]}")
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"script", "style"}:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def data_of(page):
    """The figures' data in a study's page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def assert_sound(page, hostile=()):
    """Balanced tags, one h1, ids once, labelled controls, no request to anywhere."""
    reader = read(page)
    assert not reader.problems
    assert not reader.open
    assert len(reader.all("h1")) == 1
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in reader.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or "")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("aria-controls", "aria-labelledby"):
            if name in attributes:
                assert attributes[name] in ids
    for attributes in reader.all("th"):
        assert "scope" in attributes
    assert "default-src 'none'" in page
    for text in hostile:
        assert text in reader.text
    return reader
