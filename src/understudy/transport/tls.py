"""Encryption between members: one set of files for both of a member's paths, and both ends prove who they are.

Every member shows a certificate of one authority and believes only those of that authority, whether it dials or is
dialled. That comes on top of the cluster's secret: the authority says which machine it is, the secret which cluster.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from understudy.errors import TransportError


class TlsFiles(NamedTuple):
    """What a member proves itself with; PEM files."""

    certificate: Path
    """This member's, with the chain up to the authority if there is more between."""
    key: Path
    """Its private key, without a passphrase: nobody is there to type one."""
    authority: Path
    """The certificates of whoever signs members' certificates."""
    verifies_names: bool = True
    """The certificate must name the address that was dialled."""


def dialling(files: TlsFiles) -> ssl.SSLContext:
    """For connections that this member opens. Raises: TransportError that names the file."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files)
    context.check_hostname = files.verifies_names
    return context


def accepting(files: TlsFiles) -> ssl.SSLContext:
    """For connections that others open: they must show a certificate, too. Raises: TransportError."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def zenoh_section(files: TlsFiles) -> dict[str, object]:
    """The same for zenoh's configuration, below ``transport.link.tls``."""
    return {
        "root_ca_certificate": str(files.authority),
        "listen_certificate": str(files.certificate),
        "listen_private_key": str(files.key),
        "connect_certificate": str(files.certificate),
        "connect_private_key": str(files.key),
        "enable_mtls": True,
        "verify_name_on_connect": files.verifies_names,
    }


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    for what, path in (("tls_cert", files.certificate), ("tls_key", files.key), ("tls_ca", files.authority)):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise TransportError(
                f"`{what}` {path} cannot be read: {error.strerror}; correct it in [cluster]"
            ) from error
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(files.authority)
    except ssl.SSLError as error:
        raise TransportError(f"`tls_ca` {files.authority} holds no certificate in PEM form ({error.reason})") from error
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else "it asks for a passphrase"
        raise TransportError(
            f"`tls_cert` {files.certificate} and `tls_key` {files.key} are no certificate and its key in PEM form"
            f" ({reason})"
        ) from error
    return context


def _no_passphrase() -> str:
    raise ValueError
