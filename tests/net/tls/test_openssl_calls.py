"""The choice between the two ways to call OpenSSL, and the memory they leave behind."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.net.tls import openssl_calls as tls_calls
from tunnelkit.net.tls.engine import TlsContext, TlsEngine
from tunnelkit.policy.keys import Authority


def test_the_direct_way_is_used_where_pyopenssl_has_the_names() -> None:
    assert tls_calls.direct_calls_work()
    assert tls_calls.Calls is tls_calls.DirectCalls


def test_the_public_way_is_used_where_a_private_name_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tls_calls, "_PRIVATE_NAMES", ("SSL_read", "SSL_gone_in_some_release"))
        assert not tls_calls.direct_calls_work()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "OpenSSL._util", None)
        assert not tls_calls.direct_calls_work()
    assert tls_calls.direct_calls_work()


def test_memory_of_a_large_batch_is_given_back() -> None:
    authority = Authority.create()
    client = TlsEngine(TlsContext(authority.issue("near").credentials, (b"lstp/1",)), True)
    server = TlsEngine(TlsContext(authority.issue("far").credentials, (b"lstp/1",)), False)
    wire = memoryview(bytearray(33 << 20))
    while not (client.handshake() and server.handshake()):
        server.feed(wire[: client.drain_into(wire)])
        server.handshake()
        client.feed(wire[: server.drain_into(wire)])
    client.write(memoryview(bytes(32 << 20)))
    received = client.drain_into(wire)
    before = resident()
    client.trim()
    # What one large `write` took goes back to the system.
    assert before - resident() > 24 << 20
    before = resident()
    server.feed(wire[:received])
    buffer = memoryview(bytearray(1 << 20))
    while server.read_into(buffer):
        pass
    # What comes is read where it is.
    assert resident() - before < 8 << 20


def test_a_session_that_failed_is_gone_when_nobody_holds_it() -> None:
    server = TlsEngine(TlsContext(Authority.create().issue("far").credentials, (b"lstp/1",)), False)
    server.feed(memoryview(b"GET / HTTP/1.1\r\n\r\n"))
    connection = weakref.ref(server._connection)
    gc.disable()
    try:
        for _ in range(2):
            with pytest.raises(RemoteProtocolError):
                server.handshake()
        del server
        assert connection() is None
    finally:
        gc.enable()


GARBAGE = """
import gc
from tunnelkit.net.tls.engine import TlsContext, TlsEngine
from tunnelkit.policy.keys import Authority

context = TlsContext(Authority.create().issue("far").credentials, (b"lstp/1",))
for _ in range(20):
    view = memoryview(bytearray(b"\\x16\\x03\\x01 and so on"))[:9]
    server = TlsEngine(context, False)
    server.feed(view)
    cycle = [server]
    cycle.append(cycle)
del view, server, cycle
gc.collect()
"""


def test_a_session_that_has_been_fed_may_be_garbage() -> None:
    """In a process of its own: what went wrong took the process along."""
    done = subprocess.run([sys.executable, "-c", GARBAGE], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def resident() -> int:
    """Bytes of memory that this process has now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()
