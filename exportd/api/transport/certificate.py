"""Loads the certificate that the API uses on TCP, and reads files with secrets. Blocking.

Its files are read again at each reload; connections that are made from then on see the new one.
"""

import os
import ssl
import stat
from pathlib import Path

from exportd.model.errors import SettingsError
from exportd.settings.control_schema import ControlSettings

_CHAIN_KEY, _KEY_KEY = "control.tls_certificate", "control.tls_key"
_MAX_TURNS = 10
"""The limit of steps of a handshake with oneself, which takes three."""


class Certificate:
    """A certificate chain and its key, in PEM. ``context`` is the TLS context of the server.

    Raises SettingsError when the files cannot be used. It does not check the dates, because an export must not wait for
    a certificate; ``doubt`` does.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self.chain = chain
        self.key = key
        self._newest = _loaded(chain, key)
        # Connections are made with it while a thread loads another. So it is never changed, and only points to the
        # newest.
        self.context = _loaded(chain, key)
        self.context.sni_callback = self._show_newest

    def load(self) -> None:
        """Read the files again. When it raises SettingsError, the earlier certificate is used further."""
        self._newest = _loaded(self.chain, self.key)

    def doubt(self) -> str | None:
        """The reason why every client would refuse the certificate, such as its date; None when there is none."""
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        try:
            trusting.load_verify_locations(self.chain)
            _shake_hands(trusting, self._newest)
        except ssl.SSLCertVerificationError as error:
            about, _, words = error.verify_message.partition("certificate ")
            words = f"is refused: {error.verify_message}" if about else words
        except (OSError, ssl.SSLError) as error:
            words = f"cannot be shown: {_words(error)}"
        else:
            return None
        return f"{_CHAIN_KEY}: the certificate in {self.chain} {words}; renew it, then `exportd reload`"

    def _show_newest(self, line: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called in each handshake, also when the client names no server."""
        line.context = self._newest


def certificate_of(control: ControlSettings) -> Certificate | None:
    """The certificate, if one is configured. Raises SettingsError when its files cannot be used."""
    if control.tls_certificate is None or control.tls_key is None:
        return None
    return Certificate(control.tls_certificate, control.tls_key)


def _loaded(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    read_private(key, where=_KEY_KEY)
    try:
        chain.read_bytes()
    except OSError as error:
        raise SettingsError.of(
            f"the file {chain} cannot be read: {error.strerror or error}", where=_CHAIN_KEY
        ) from error
    try:
        context.load_cert_chain(chain, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError.of(
                f"the key in {key} does not belong to the certificate in {chain}", where=_KEY_KEY
            ) from error
        raise SettingsError.of(
            f"{chain} and {key} are not a certificate chain and its key in PEM that can be used: {_words(error)}",
            where=_CHAIN_KEY,
        ) from error
    except _EncryptedError as error:
        raise SettingsError.of(
            f"the key in {key} is protected by a password, which the daemon cannot ask for; store it without one",
            where=_KEY_KEY,
        ) from error
    return context


class _EncryptedError(Exception):
    """OpenSSL asks for a password."""


def _no_password() -> str:
    raise _EncryptedError


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Make a handshake in memory. Raises SSLError when either side refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(_MAX_TURNS):
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
        if not ends:
            return


def _words(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or str(error)).replace("_", " ").lower()


def read_private(path: Path, *, where: str) -> bytes:
    """Read a file with secrets. Raises SettingsError when it cannot be read, and when every user can read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise SettingsError.of(f"the file {path} cannot be read: {error.strerror or error}", where=where) from error
    if mode & stat.S_IRWXO:
        raise SettingsError.of(
            f"the file {path} is open to every user of this machine (mode {mode:04o}): chmod o= {path}", where=where
        )
    return content
