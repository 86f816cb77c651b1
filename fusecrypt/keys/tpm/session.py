"""A TPM 2.0 through tpm2-pytss: opened, called, and left without leftovers.

One TPM object belongs to one thread. Everything that is loaded is flushed on every path: without a
resource manager it would outlive the connection.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from fusecrypt.keys.tpm.errors import (
    BUSY,
    INITIALIZE,
    NO_SUCH_HANDLE,
    OCCUPIED,
    OtherTPMError,
    TPMError,
    TPMUnavailableError,
    explain,
    plain,
)
from fusecrypt.keys.tpm.library import Library
from fusecrypt.keys.tpm.parent import Parent, name_of
from fusecrypt.keys.tpm.policy import selection
from fusecrypt.native import Secret

DEFAULT_TCTI = "device:/dev/tpmrm0"
SRK = 0x81000001
"""Persistent handle of the storage root key."""

SRK_TEMPLATE = bytes.fromhex("001a0023000b00030472000000060080004300100003001000000000")
"""TPM2B_PUBLIC of the storage key that systemd makes too: ECC P-256, both unique fields empty."""

MAX_ANSWER = 64
_LONGEST_ANSWER = 256
"""Octets; more than an answer with sealed data has before them and of them."""

_RETRIES = 8
_FIRST_WAIT = 0.02  # seconds; doubled at each retry, about five seconds in all


class TPM(Library):
    """An open TPM. ``tcti`` is a TCTI string, or a TCTI object of tpm2-pytss; /dev/tpmrm0 if None."""

    def __init__(self, tcti: Any = None) -> None:
        super().__init__()
        self._tcti = DEFAULT_TCTI if tcti is None else tcti
        self._esapi = self._open()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> TPM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._esapi.close()

    def call(self, command: str, *arguments: Any, **named: Any) -> Any:
        """One ESAPI command; a busy TPM is asked again for some seconds. Raises a TPMError."""
        wait = _FIRST_WAIT
        for attempt in range(_RETRIES + 1):
            try:
                return getattr(self._esapi, command)(*arguments, **named)
            except self.lib.TSS2_Exception as error:
                code = plain(int(error.rc))
                if code not in BUSY or attempt == _RETRIES:
                    raise explain(code, command) from error
            time.sleep(wait)
            wait *= 2
        raise AssertionError("the loop returns or raises")

    def octets(self, structure: Any) -> bytes:
        """A structure of an answer as the octets that stand for it; BrokenAnswerError if it is none."""
        try:
            return bytes(structure.marshal())
        except self.lib.TSS2_Exception as error:
            raise explain(plain(int(error.rc)), "marshal") from error

    @contextmanager
    def flushed(self, handle: Any) -> Iterator[Any]:
        """Flush an object or session afterwards; a failure of that never hides the first error."""
        try:
            yield handle
        finally:
            with suppress(self.lib.TSS2_Exception):
                self._esapi.flush_context(handle)

    @contextmanager
    def session(self, parent: Any, *, policy: bool = False, digest: str = "sha256") -> Iterator[Any]:
        """A session salted to a parent, which encrypts parameters both ways."""
        lib = self.lib
        kind = lib.TPM2_SE.POLICY if policy else lib.TPM2_SE.HMAC
        aes = lib.TPMT_SYM_DEF(
            algorithm=lib.TPM2_ALG.AES,
            keyBits=lib.TPMU_SYM_KEY_BITS(aes=128),
            mode=lib.TPMU_SYM_MODE(aes=lib.TPM2_ALG.CFB),
        )
        algorithm = getattr(lib.TPM2_ALG, digest.upper())
        session = self.call("start_auth_session", parent, lib.ESYS_TR.NONE, kind, aes, algorithm)
        attributes = lib.TPMA_SESSION.DECRYPT | lib.TPMA_SESSION.ENCRYPT | lib.TPMA_SESSION.CONTINUESESSION
        with self.flushed(session):
            self.call("trsess_set_attributes", session, attributes)
            yield session

    def pinned(self, parent: Parent) -> Any:
        """A handle for a parent whose sessions are salted to the stored public key, whatever answers.

        Raises OtherTPMError if the TPM has another key there, or none.
        """
        actual = self.parent_at(parent.handle)
        name = name_of(parent.public)
        if actual.name != parent.name or name != parent.name:
            raise OtherTPMError(
                f"the storage key at {parent.handle:#x} differs: this TPM was cleared, or is another one",
                "unlock with the recovery key or a passphrase, then run fusecrypt key reseal",
            )
        public, _ = self.lib.TPM2B_PUBLIC.unmarshal(parent.public)
        return self.call("tr_deserialize", self.lib.ESYS_TR.parts_to_blob(parent.handle, public))

    def parent_at(self, handle: int) -> Parent:
        """What stands at a persistent handle; OtherTPMError if nothing does."""
        key = self.call("tr_from_tpmpublic", handle)
        public, name, _ = self.call("read_public", key)
        self.call("tr_close", key)
        return Parent(handle, bytes(name), self.octets(public))

    def storage_key(self) -> Parent:
        """The storage root key; it is made and kept if there is none. For enrolment only."""
        try:
            return self.parent_at(SRK)
        except TPMError as error:
            if error.code != NO_SUCH_HANDLE:
                raise
        with self.primary() as key:
            try:
                self.call("tr_close", self.call("evict_control", self.lib.ESYS_TR.OWNER, key, SRK))
            except TPMError as error:
                if error.code != OCCUPIED:  # another process was quicker
                    raise
        return self.parent_at(SRK)

    @contextmanager
    def primary(self) -> Iterator[Any]:
        """The storage key of the standard template in the owner hierarchy, for a while."""
        lib = self.lib
        template, _ = lib.TPM2B_PUBLIC.unmarshal(SRK_TEMPLATE)
        key, *_ = self.call("create_primary", lib.TPM2B_SENSITIVE_CREATE(), template, lib.ESYS_TR.OWNER)
        with self.flushed(key):
            yield key

    def set_auth(self, handle: Any, auth: Secret | None) -> None:
        """Give the library an object's auth value; what is copied on the way is wiped."""
        value = self.lib.TPM2B_AUTH()
        self.fill(value._cdata, auth)
        self.call("tr_set_auth", handle, value)
        self.wipe(value._cdata)

    def unseal(self, item: Any, session: Any) -> Secret:
        """What a loaded object seals."""
        secret = self.take(self.call("unseal", item, session1=session))
        # The library keeps an answer, decrypted, until a longer command takes its place.
        self.call("hash", bytes(_LONGEST_ANSWER), self.lib.TPM2_ALG.SHA256, self.lib.ESYS_TR.OWNER)
        return secret

    def pcrs(self, bank: str, numbers: tuple[int, ...]) -> dict[int, bytes]:
        """Values of PCRs; TPMError if the TPM has no such bank."""
        values: dict[int, bytes] = {}
        for number in numbers:
            wanted, _ = self.lib.TPML_PCR_SELECTION.unmarshal(selection(bank, [number]))
            _, _, digests = self.call("pcr_read", wanted)
            if len(digests) != 1:
                raise TPMError(
                    f"the TPM has no PCR {number} in the bank {bank}", "tpm2_getcap pcrs shows its banks"
                )
            values[number] = bytes(digests[0])
        return values

    def properties(self, first: int, count: int) -> dict[int, int]:
        """Fixed or variable properties by their numbers."""
        _, answer = self.call("get_capability", self.lib.TPM2_CAP.TPM_PROPERTIES, first, count)
        # The answer stays in a variable: its parts are views of memory that it owns.
        listed = answer.data.tpmProperties
        return {int(listed[n].property): int(listed[n].value) for n in range(min(listed.count, MAX_ANSWER))}

    def _open(self) -> Any:
        try:
            return self.lib.ESAPI(self._tcti)
        except self.lib.TSS2_Exception as error:
            code = plain(int(error.rc))
            raise _unreachable(self._tcti, code) from error
        except (RuntimeError, ValueError, TypeError) as error:
            raise _unreachable(self._tcti, 0x0A000B) from error

    def _start(self) -> None:
        try:
            self.properties(0x105, 1)
        except TPMError as error:
            if error.code == 0x0A000A:
                raise _unreachable(self._tcti, error.code) from error
            if error.code != INITIALIZE:
                raise
            self.call("startup", self.lib.TPM2_SU.CLEAR)


def _unreachable(tcti: Any, code: int) -> TPMError:
    """Why a TPM cannot be opened; the library gives one code for all causes of a device's failure."""
    explained = explain(code, "open")
    if not isinstance(tcti, str) or not tcti.startswith("device:") or code != 0x0A000A:
        return explained
    device = tcti.partition(":")[2]
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        reasons = {
            errno.ENOENT: ("there is no TPM", "look into the firmware's settings, or use the recovery key"),
            errno.EACCES: (f"no permission for {device}", "become a member of the group tss"),
            errno.EBUSY: (f"{device} is in use by another program", "use /dev/tpmrm0"),
        }
        message, hint = reasons.get(error.errno or 0, (f"{device}: {error.strerror}", ""))
        return TPMUnavailableError(message, hint, code)
    return explained
