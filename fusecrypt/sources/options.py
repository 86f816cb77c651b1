"""The options after -o: the kernel's, mount.ecryptfs's, and mount(8)'s usual ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fusecrypt.errors import UsageError
from fusecrypt.tree.resolve import Options

KERNEL_FLAGS = frozenset(
    (
        "ro rw suid nosuid dev nodev exec noexec atime noatime relatime norelatime strictatime diratime "
        "nodiratime sync async dirsync"
    ).split()
)
"""What the kernel itself knows of every mount, and can change while it stands."""
_FUSE_FLAGS = KERNEL_FLAGS | {"allow_other", "auto_unmount", "default_permissions"}
_IGNORED = frozenset(
    (
        "no_sig_cache verbose no_prompt defaults none auto noauto user nouser users nousers owner group "
        "nofail _netdev ecryptfs_unlink_sigs"
    ).split()
)
_IGNORED_PREFIXES = ("verbosity=", "ecryptfs_debug=", "x-", "X-", "comment=", "uhelper=")
_BOOLEANS = {"y": True, "yes": True, "n": False, "no": False, "": True}
_PIECE = re.compile(r'(?:"[^"]*"|[^,])+')
_SECRET_OPTIONS = ("passphrase_passwd", "passwd")


@dataclass
class MountOptions:
    """``-o`` taken apart: for the tree, for FUSE, and where passphrases come from."""

    tree: dict[str, object] = field(default_factory=dict)
    signatures: list[bytes] = field(default_factory=list)
    fuse: set[str] = field(default_factory=set)
    passwd_files: list[str] = field(default_factory=list)
    passwd_fds: list[int] = field(default_factory=list)
    salt: str | None = None
    check_owner: bool = False

    def tree_options(self) -> Options:
        """In the form that the tree understands."""
        return Options(
            signatures=tuple(self.signatures),
            read_only="ro" in self.fuse,
            noatime="noatime" in self.fuse,
            **self.tree,  # type: ignore[arg-type]
        )


def parse(words: Iterable[str]) -> MountOptions:
    """Parse any number of -o arguments. Raises UsageError for what is unknown or must not be there."""
    options = MountOptions()
    for item in split(words):
        _take(options, item)
    return options


def split(words: Iterable[str]) -> list[str]:
    """The single options in -o arguments; double quotes, which go, keep commas together as in fstab."""
    pieces = (piece for word in words for piece in _PIECE.findall(word))
    return [item for piece in pieces if (item := piece.replace('"', ""))]


def is_known(item: str) -> bool:
    """Whether this is an option that means something, or nothing, but is no mistake."""
    name = item.partition("=")[0]
    return item in _FUSE_FLAGS or name in {*_SECRET_OPTIONS, "key", *_TREE} or _is_ignored(item)


def _is_ignored(item: str) -> bool:
    return item in _IGNORED or item.startswith(_IGNORED_PREFIXES)


def _take(options: MountOptions, item: str) -> None:
    name, _, value = item.partition("=")
    if item in _FUSE_FLAGS:
        _take_flag(options, item)
    elif name in _SECRET_OPTIONS:
        _refuse_secret(name)
    elif name == "key":
        _take_key(options, value)
    elif name in _TREE:
        _TREE[name](options, name, value)
    elif not _is_ignored(item):
        raise UsageError(f"unknown mount option {item!r}", "see `fusecrypt mount --help`")


def _take_flag(options: MountOptions, flag: str) -> None:
    """The last of two opposites holds."""
    opposite = flag[2:] if flag.startswith("no") else f"no{flag}"
    pairs = {"ro": "rw", "rw": "ro", "sync": "async", "async": "sync"}
    options.fuse.discard(pairs.get(flag, opposite))
    options.fuse.add(flag)


def _refuse_secret(name: str) -> None:
    raise UsageError(
        f"{name}= would show the passphrase to everybody who lists processes",
        "use --passfile FILE, --passphrase-fd N or key=passphrase:passphrase_passwd_file=FILE",
    )


def _take_key(options: MountOptions, value: str) -> None:
    """key=passphrase[:passphrase_passwd_file=F][:passphrase_passwd_fd=N][:passphrase_salt=HEX]"""
    module, *parts = value.split(":")
    if module != "passphrase":
        raise UsageError(f"key module {module!r} is not supported", "only key=passphrase is")
    for part in parts:
        name, _, argument = part.partition("=")
        if name in _SECRET_OPTIONS:
            _refuse_secret(name)
        elif name in ("passphrase_passwd_file", "passfile"):
            options.passwd_files.append(argument)
        elif name in ("passphrase_passwd_fd", "passfd"):
            options.passwd_fds.append(_number(name, argument))
        elif name in ("passphrase_salt", "salt"):
            options.salt = argument
        else:
            raise UsageError(
                f"unknown part {part!r} in key=",
                "passphrase_passwd_file=FILE, passphrase_passwd_fd=N and passphrase_salt=HEX are known",
            )


def _number(name: str, value: str) -> int:
    try:
        return int(value, 0)
    except ValueError:
        raise UsageError(f"{name}={value} is no number", f"such as {name}=16") from None


def _signature(name: str, value: str) -> bytes:
    try:
        signature = bytes.fromhex(value)
    except ValueError:
        signature = b""
    if len(signature) != 8:
        raise UsageError(
            f"{name}={value}: a signature has 16 hex digits", "`fusecrypt identify` shows those of a tree"
        )
    return signature


def _boolean(name: str, value: str) -> bool:
    if value.lower() not in _BOOLEANS:
        raise UsageError(f"{name}={value}: say y or n", f"such as {name}=n")
    return _BOOLEANS[value.lower()]


_Taker = Callable[[MountOptions, str, str], None]


def _store(key: str, convert: Callable[[str, str], object]) -> _Taker:
    def take(options: MountOptions, name: str, value: str) -> None:
        options.tree[key] = convert(name, value)

    return take


def _add_signature(options: MountOptions, name: str, value: str) -> None:
    options.signatures.append(_signature(name, value))


def _check_owner(options: MountOptions, name: str, value: str) -> None:
    options.check_owner = True


def _refuse_hmac(options: MountOptions, name: str, value: str) -> None:
    raise UsageError(
        f"{name} is not possible: eCryptfs's format has no integrity",
        "leave it out; `fusecrypt manifest` notices changed contents",
    )


def _text(name: str, value: str) -> str:
    return value


_TREE: dict[str, _Taker] = {
    "ecryptfs_sig": _add_signature,
    "sig": _add_signature,
    "ecryptfs_fnek_sig": _store("fnek_signature", _signature),
    "ecryptfs_cipher": _store("cipher", _text),
    "cipher": _store("cipher", _text),
    "ecryptfs_key_bytes": _store("key_bytes", _number),
    "ecryptfs_fn_cipher": _store("fn_cipher", _text),
    "ecryptfs_fn_key_bytes": _store("fn_key_bytes", _number),
    "ecryptfs_enable_filename_crypto": _store("encrypt_names", _boolean),
    "ecryptfs_passthrough": _store("passthrough", _boolean),
    "ecryptfs_xattr_metadata": _store("xattr_metadata", _boolean),
    "ecryptfs_xattr": _store("xattr_metadata", _boolean),
    "ecryptfs_encrypted_view": _store("encrypted_view", _boolean),
    "ecryptfs_mount_auth_tok_only": _store("mount_auth_tok_only", _boolean),
    "ecryptfs_check_dev_ruid": _check_owner,
    "ecryptfs_hmac": _refuse_hmac,
    "shared": _store("shared", _boolean),
}
