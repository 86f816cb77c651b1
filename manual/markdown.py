"""Parts of docs/ as parts of a manual page."""

from __future__ import annotations

from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

from manual.roff import bold, escape, heading, items, paragraph, subheading, verbatim

_PARSER = MarkdownIt("commonmark").enable("table")
_FONTS = {"strong_open": "\\fB", "em_open": "\\fI", "strong_close": "\\fR", "em_close": "\\fR"}


def section(text: str, title: str) -> str:
    """The lines of a Markdown text from a heading to the next one of its level. Raises ValueError."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.lstrip("# ") == title)
    level = lines[start].split()[0]
    rest = lines[start + 1 :]
    end = next((number for number, line in enumerate(rest) if line.startswith(f"{level} ")), len(rest))
    return "\n".join(rest[:end])


def to_roff(text: str) -> str:
    """Headings of level 2 become sections, others subsections; the first cell of a row is a tag."""
    return "".join(_blocks(iter(_PARSER.parse(text))))


def _blocks(tokens: Iterator[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "heading_open":
            make = heading if token.tag == "h2" else subheading
            content = next(tokens).content
            yield make(content.upper() if token.tag == "h2" else content)
        elif token.type == "paragraph_open":
            yield paragraph(_inline(next(tokens)))
        elif token.type == "fence":
            yield verbatim(token.content)
        elif token.type == "list_item_open":
            next(tokens)
            yield f'.IP "\\(bu" 2\n{_inline(next(tokens))}\n'
        elif token.type == "tbody_open":
            yield items(_rows(tokens))
        elif token.type == "thead_open":
            for passed in tokens:
                if passed.type == "thead_close":
                    break


def _rows(tokens: Iterator[Token]) -> Iterator[tuple[str, str]]:
    cells: list[str] = []
    for token in tokens:
        if token.type == "tbody_close":
            return
        if token.type == "inline":
            cells.append(_inline(token))
        elif token.type == "tr_close":
            yield cells[0], "; ".join(cells[1:])
            cells = []


def _inline(token: Token) -> str:
    return "".join(_word(child) for child in token.children or ())


def _word(token: Token) -> str:
    if token.type == "code_inline":
        return bold(token.content)
    if token.type in ("softbreak", "hardbreak"):
        return "\n"
    return _FONTS.get(token.type) or escape(token.content)
