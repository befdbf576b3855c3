"""What the sources of the site and its built pages link to."""

from __future__ import annotations

import ast
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

GALLERY_IMAGE = re.compile(r"auto_examples/images/sphx_glr_(plot_\w+?)_\d{3}\.png")
GALLERY_PAGE = re.compile(r"auto_examples/(plot_\w+)\.html")


class Page(HTMLParser):
    """The addresses that a built page refers to, and the places in it that can be referred to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.add(value)
            elif name in ("id", "name") and value:
                self.places.add(value)


def broken_links(site: Path) -> list[str]:
    """Internal links of a built site that lead nowhere, as "page -> link"."""
    # The theme's own files are templates.
    paths = (path.resolve() for path in site.rglob("*.html") if "_static" not in path.parts)
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in paths}
    broken = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            found = target.exists() and (not parts.fragment or reaches(pages.get(target), unquote(parts.fragment)))
            if not found:
                broken.append(f"{path.relative_to(site.resolve())} -> {link}")
    return broken


def reaches(page: Page | None, fragment: str) -> bool:
    return page is None or fragment in page.places  # None: a file that is no page


def missing_targets(source: Path, root: Path) -> list[str]:
    """What a page's source refers to and the repository has not got; figures of the gallery stand for their scripts."""
    text, docs = source.read_text(encoding="utf-8"), root / "docs"
    wanted = {name: docs / f"{name.lstrip('/')}.rst" for name in re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", text)}
    for option in re.findall(r"^ *(?:\.\. image::|\.\. literalinclude::|:target:) (\S+)$", text, re.MULTILINE):
        script = GALLERY_IMAGE.fullmatch(option) or GALLERY_PAGE.fullmatch(option)
        wanted[option] = root / "examples" / f"{script[1]}.py" if script else docs / option
    return [name for name, path in wanted.items() if not path.exists()]


def included_code(source: Path) -> dict[str, int]:
    """Lines of each object that a page includes from the package, by its name."""
    found = {}
    pattern = re.compile(r"\.\. literalinclude:: (\S+)\n +:pyobject: (\w+)")
    for path, name in pattern.findall(source.read_text(encoding="utf-8")):
        for node in ast.parse((source.parent / path).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found[name] = node.end_lineno - first + 1
    return found
