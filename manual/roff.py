"""The few words of man(7) that the pages need."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BOLD = re.compile(r"`([^`]+)`")


def escape(text: str) -> str:
    """Text that troff shows as it is: hyphens that can be copied, no line that is taken for a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    text = text.replace("'", "\\(aq").replace("`", "\\(ga")
    return re.sub(r"^\.", r"\\&.", text, flags=re.MULTILINE)


def inline(text: str) -> str:
    """The same with what stands in backticks in bold."""
    parts = _BOLD.split(text)
    return "".join(bold(part) if number % 2 else escape(part) for number, part in enumerate(parts))


def bold(text: str) -> str:
    return f"\\fB{escape(text)}\\fR"


def title(name: str, section: int, version: str) -> str:
    return f'.TH "{escape(name.upper())}" {section} "" "fusecrypt {version}" "fusecrypt"\n'


def heading(text: str) -> str:
    return f".SH {escape(text)}\n"


def subheading(text: str) -> str:
    return f'.SS "{escape(text)}"\n'


def paragraph(text: str) -> str:
    """A paragraph of text that is troff's already."""
    return f".PP\n{text}\n"


def verbatim(text: str) -> str:
    return f".PP\n.nf\n{escape(text.rstrip())}\n.fi\n"


def items(pairs: Iterable[tuple[str, str]]) -> str:
    """Tags with their texts, both troff's already."""
    return "".join(f".TP\n{tag}\n{text}\n" for tag, text in pairs)
