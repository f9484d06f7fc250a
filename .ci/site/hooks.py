"""Hooks of the site's build: links of the repository become links of the site, errors a page."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from error_index import error_index

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {".svg", ".png", ".gif", ".jpg", ".jpeg", ".webp"}
CODE = re.compile(r"^(`{3,}).*?^\1`*\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)#\s]+)")
INCLUDE = re.compile(r'include-markdown\s+"([^"]+)"')
ERRORS = "<!-- The build puts the list of errors here. -->"


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pictures that READMEs show, which lie outside of docs/."""
    from mkdocs.structure.files import File

    for readme in (ROOT / "plugins").glob("*/README.md"):
        for path in readme.parent.iterdir():
            if path.suffix in IMAGES:
                source = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, source, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Point each relative link at the page or picture of the site, or into the repository."""
    source = INCLUDE.search(Path(page.file.abs_src_path).read_text("utf-8"))
    if source is not None:
        where = posixpath.normpath(posixpath.join("docs", page.file.src_uri, "..", source[1]))
        page.edit_url = f"{config.repo_url}/edit/main/{where}"
    if ERRORS in markdown:
        markdown = markdown.replace(ERRORS, error_index())
    pages = {file.src_uri for file in files}
    folder = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        target = site_path(path)
        if target not in pages:
            return f"{link[1]}{config.repo_url}/blob/main/{path}"
        return link[1] + posixpath.relpath(target, folder or ".")

    return _outside_code(markdown, moved)


def site_path(path: str) -> str:
    """The site's source path of a file of the repository, where it has one.

    Args:
        path: path from the root of the repository.
    """
    parts = PurePosixPath(path).parts
    if parts[0] == "docs":
        return posixpath.join(*parts[1:]) if len(parts) > 1 else "index.md"
    if parts[0] == "plugins" and parts[2:] == ("README.md",):
        return f"plugins/{parts[1]}.md"
    return {
        "README.md": "index.md",
        "CHANGELOG.md": "changelog.md",
        "CONTRIBUTING.md": "contributing.md",
        "SECURITY.md": "security.md",
        "benchmarks/RESULTS.md": "benchmarks.md",
    }.get(path, path)


def _outside_code(markdown: str, moved: Any) -> str:
    pieces = []
    end = 0
    for code in CODE.finditer(markdown):
        pieces += [LINK.sub(moved, markdown[end : code.start()]), code[0]]
        end = code.end()
    pieces.append(LINK.sub(moved, markdown[end:]))
    return "".join(pieces)
