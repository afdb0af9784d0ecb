"""Encryption between members: both paths, both ends, one set of files; and plain words for what can be wrong."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.certificates import Authority
from tests.conformance.test_transports import DirectNet, InLoop, Recorder
from tests.patience import LONG_LEASES, PATIENCE_S
from tests.system.cluster import Visitor, sessions_cluster
from tests.system.test_direct_paths import port_of

from understudy.errors import TransportError
from understudy.transport import Peer, handshake
from understudy.transport.tls import TlsFiles, accepting, dialling

SECRET_TEXT = b"a text that nobody on the wire may read"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip(reason="openssl, which makes the certificates, is not installed: apt-get install openssl")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> TlsFiles:
    return authority.member("member")


@pytest.fixture
def net(files: TlsFiles) -> Iterator[DirectNet]:
    made = DirectNet(files)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pair(net: DirectNet) -> tuple[tuple[InLoop, Recorder], tuple[InLoop, Recorder]]:
    a, b = net.make("a", 11), net.make("b", 12)
    net.soon(lambda: net.paired(a, b))
    return a, b


def test_frames_pass_on_both_paths(net: DirectNet, pair: tuple[tuple[InLoop, Recorder], ...]) -> None:
    """Small ones directly, large ones routed."""
    (to_b, a), (_, b) = pair
    for size in (10, 500_000):
        to_b.send(b.me, bytes(size))
    net.until(lambda: len(b.all("received")) == 2)
    assert {len(frame) for _, frame in b.all("received")} == {10, 500_000}  # type: ignore[misc]
    assert a.all("refused") == b.all("refused") == []


def test_who_shows_no_certificate_is_not_let_in(
    net: DirectNet, pair: tuple[tuple[InLoop, Recorder], ...], files: TlsFiles, tmp_path: Path
) -> None:
    """S53: neither without one nor with one of another authority; the members' own path goes on."""
    (to_b, a), (_, b) = pair
    foreign = Authority(tmp_path, "foreign").member("stranger")
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(files.authority)
    shows_another = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    shows_another.load_verify_locations(files.authority)
    shows_another.load_cert_chain(foreign.certificate, foreign.key)
    known = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    known.load_verify_locations(files.authority)
    known.load_cert_chain(files.certificate, files.key)
    answers = {context: _greeted(port_of(to_b), a.me, context) for context in (bare, shows_another, known)}
    assert answers[bare] == answers[shows_another] == b""
    assert len(answers[known]) == 4 + handshake.NONCE_BYTES + handshake.MAC_BYTES
    to_b.send(b.me, b"on")
    net.until(lambda: b.all("received") == [(a.me, b"on")])


def _greeted(port: int, member: Peer, context: ssl.SSLContext) -> bytes:
    """What a stranger is answered who greets properly."""
    greeting = handshake.greeting(Peer("z", 99), member, b"1" * 16)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain,
        contextlib.suppress(OSError),  # an alert, or the end: TLS 1.3 tells of a refusal with the first read
        context.wrap_socket(plain, server_hostname="localhost") as stranger,
    ):
        stranger.sendall(len(greeting).to_bytes(4, "big") + greeting)
        return stranger.recv(100)
    return b""


def test_nothing_readable_is_on_the_wire(files: TlsFiles) -> None:
    """S54: a relay between the two that notes everything sees no byte of what they say, nor their names."""
    seen = bytearray()
    net = DirectNet(files)
    try:
        (to_b, a), (_, b) = net.make("anna", 11), net.make("bert", 12)
        net.soon(lambda: net.paired((to_b, a), (_, b)))
        connection = net.in_loop(lambda: to_b.paths._paths[b.me])
        net.in_loop(lambda: _note_writes(connection, seen))
        to_b.send(b.me, SECRET_TEXT * 10)
        net.until(lambda: b.all("received") != [])
    finally:
        net.close()
    assert len(seen) > 10 * len(SECRET_TEXT) and SECRET_TEXT not in seen and b"anna" not in seen


def _note_writes(connection: object, seen: bytearray) -> None:
    """Copies what leaves through the socket below the encryption."""
    wrapped = connection._transport._ssl_protocol._transport  # type: ignore[attr-defined]
    write = wrapped.write

    def noting(data: bytes) -> None:
        seen.extend(data)
        write(data)

    wrapped.write = noting


def test_a_certificate_for_another_address_is_not_believed(authority: Authority) -> None:
    """Unless ``tls_verify_names`` says that names do not matter."""
    named_otherwise = authority.member("elsewhere", "IP:127.9.9.9")
    assert dialling(named_otherwise).check_hostname
    assert not dialling(named_otherwise._replace(verifies_names=False)).check_hostname
    net = DirectNet(named_otherwise._replace(verifies_names=False))
    try:
        a, b = net.make("a", 11), net.make("b", 12)
        net.soon(lambda: net.paired(a, b))
    finally:
        net.close()


def test_what_is_wrong_with_a_file_is_said(files: TlsFiles, tmp_path: Path) -> None:
    """The message names the setting, the file and the reason."""
    text, locked = tmp_path / "text.pem", tmp_path / "locked.key"
    text.write_text("no certificate\n")
    locked.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBvTBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHAQI\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    for wrong, words in (
        (files._replace(certificate=tmp_path / "none"), ["tls_cert", "none", "No such file"]),
        (files._replace(authority=text), ["tls_ca", "text.pem", "no certificate in PEM form"]),
        (files._replace(certificate=text), ["tls_cert", "text.pem"]),
        (files._replace(key=locked), ["tls_key", "locked.key"]),
    ):
        for make in (dialling, accepting):
            with pytest.raises(TransportError) as raised:
                make(wrong)
            assert all(word in str(raised.value) for word in words)


def test_a_cluster_with_encryption_serves(files: TlsFiles) -> None:
    """S12, S22: three agents with the same three settings; a session goes on at the others when its primary dies."""
    variables = {"TLS_CERT": files.certificate, "TLS_KEY": files.key, "TLS_CA": files.authority}
    settings = LONG_LEASES | {f"UNDERSTUDY_{name}": str(path) for name, path in variables.items()}
    with sessions_cluster(("a", "b", "c"), **settings) as cluster:
        cluster.start()
        cluster.wait_ready()
        visitor = Visitor(cluster)
        visitor.protected("a", "/login", name="anna")
        visitor.protected("b", "/set", name="x", value="1")
        cluster.kill("a")
        assert visitor.values("c") == {"user": "anna", "x": "1"}
