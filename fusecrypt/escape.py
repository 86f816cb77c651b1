"""Text for terminals and logs, whatever names of files hold."""

from __future__ import annotations

_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}
_SURROGATES = range(0xDC80, 0xDD00)
"""What stands for an octet that is no UTF-8."""


def escaped(text: str) -> str:
    r"""A text in which what is not printable (``\n``, ``\x1b``, ``\u202e``) and backslashes are escaped.

    So it stays one line and moves no cursor.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code in _SURROGATES:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
