"""Crawls a built site offline: every internal link, anchor, picture, script and style answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINKS = {
    "a": "href",
    "area": "href",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
}


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where the tag leads and what leads to it."""
        named = dict(attrs)
        target = named.get(LINKS.get(tag, ""))
        if target is not None and named.get("rel") != "canonical":
            self.links.append(target)
        self.anchors.update(value for key in ("id", "name") if (value := named.get(key)))


def broken_links(site: Path, base: str = "/") -> Iterator[str]:
    """Yield one line for each link that leads nowhere.

    Args:
        site: the folder of the built site.
        base: path under which the site is served; links that begin with `/` start there.
    """
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: no page"
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            fault = _fault(site, base, path, link, pages)
            if fault:
                yield f"{path.relative_to(site)}: {link}: {fault}"


def _fault(site: Path, base: str, path: Path, link: str, pages: dict[Path, _Page]) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    if parts.path.startswith("/"):
        if not parts.path.startswith(base):
            return f"outside of {base}"
        target = site / unquote(parts.path[len(base) :])
    else:
        target = path.parent / unquote(parts.path) if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    target = Path(*target.parts[:1], *_resolved(target.parts[1:]))
    if not target.is_file():
        return "no such file"
    if parts.fragment and target in pages:
        anchor = unquote(parts.fragment)
        # `__`: the theme's own, which its script answers.
        if anchor not in pages[target].anchors and not anchor.startswith("__"):
            return "no such anchor"
    return None


def _resolved(parts: tuple[str, ...]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part == "..":
            kept.pop()
        else:
            kept.append(part)
    return kept


if __name__ == "__main__":
    folder, *bases = sys.argv[1:]
    faults = list(broken_links(Path(folder).resolve(), *bases))
    print("\n".join(faults) or f"{folder}: every link, anchor and picture answers")
    sys.exit(bool(faults))
