"""The size of a file as it is seen above, without opening it to read."""

from __future__ import annotations

import errno
import os

from fusecrypt.errors import FormatError, FusecryptError
from fusecrypt.native import PEEK_EMPTY, PEEK_ERROR, PEEK_FOREIGN, PEEK_HEADER, Stat
from fusecrypt.ondisk.header import MAX_SIZE, MINIMUM_REGION, parse_header
from fusecrypt.tree.files import open_file
from fusecrypt.tree.headers import read_xattr
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.view import view_size

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


_WANT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Why a look says nothing of the file: the next one may succeed, and a guessed size would be wrong."""


def is_there(st: Stat) -> bool:
    """Whether a look (with a peek) at a name has found something; a file whose header cannot be read, for
    whatever reason, is something too, to be listed, renamed or removed. Raises OSError where the look failed,
    or the peek for want of descriptors or memory."""
    if not st.error:
        return True
    if st.error == errno.ENOENT:
        return False
    if st.peek == PEEK_ERROR and st.error not in _WANT:
        return True
    raise OSError(st.error, os.strerror(st.error))


def peeked_size(st: Stat, policy: Policy) -> int | None:
    """The upper size if a peek at the header is enough to know it."""
    enough = st.peek == PEEK_HEADER and policy.by_header and st.upper_size <= MAX_SIZE
    return st.upper_size if enough else None


def regular_size(st: Stat, file: int | str, policy: Policy) -> int:
    """The upper size of a regular lower file, in octets.

    ``st`` comes with a peek at the header; ``file`` is a readable descriptor, or a path of which the last
    part is not followed if it has become a symlink.
    """
    if policy.encrypted_view:
        return view_size(st.size, st.peek in (PEEK_FOREIGN, PEEK_EMPTY) and _xattr_size(file) is not None)
    if policy.passthrough:
        return _size_when_open(st, file, policy)
    known = peeked_size(st, policy)
    if known is not None:
        return known
    if st.peek == PEEK_ERROR:
        return max(0, st.size - MINIMUM_REGION)  # not readable by us: the nearest that can be said
    size = _xattr_size(file)
    return st.size if size is None else size


def _size_when_open(st: Stat, file: int | str, policy: Policy) -> int:
    """Under passthrough the size depends on whether a key opens the file: ask open_file()."""
    try:
        fd = os.dup(file) if isinstance(file, int) else os.open(file, _FLAGS)
    except OSError:
        return st.size
    try:
        opened = open_file(fd, False, policy)
    except (OSError, FusecryptError):
        os.close(fd)
        return st.size
    size = opened.size
    opened.close()
    return size


def _xattr_size(file: int | str) -> int | None:
    """The upper size that the attribute of a lower file says, or None if there is no usable one, or it cannot
    be read. Raises OSError for want of descriptors or memory."""
    try:
        value = read_xattr(file)
        return None if value is None else parse_header(value).size
    except FormatError:
        return None
    except OSError as error:
        if error.errno in _WANT:
            raise
        return None
