"""DTLS with many devices on one port (rows W1, W8; rule X19)."""

from __future__ import annotations

import attrs
import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone

from tests.net.tls.dtls_world import (
    DEVICE_CA,
    Talker,
    World,
    client_context,
    server_context,
)
from tests.wire.test_dtls_records import hello, record
from tunnelkit.errors import LocalProtocolError
from tunnelkit.net.tls.dtls_client import DtlsClient
from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.net.tls.dtls_server import IDLE, REFUSED_LIMIT
from tunnelkit.testing import TestClock, throwaway_ca

A = ("192.0.2.1", 1000)
B = ("192.0.2.1", 1001)


def shaken(world: World, clock: TestClock, *where: tuple[str, int]) -> list[Talker]:
    talkers = [world.device(address)[1] for address in where]
    clock.settle()
    assert all(talker.up for talker in talkers)
    return talkers


def echoed(clock: TestClock, device: DtlsClient, talker: Talker, data: bytes) -> bool:
    """Whether ``data`` comes back."""
    before = len(talker.heard)
    assert device.association is not None
    device.association.write(data)
    clock.settle()
    return talker.heard[before:] == [data]


def test_many_devices_talk_on_one_port_and_end_in_order() -> None:
    clock = TestClock()
    world = World(clock)
    devices = [world.device(("192.0.2.1", port)) for port in range(1000, 1050)]
    clock.settle()
    assert len(world.server.associations) == 50
    for number, (device, talker) in enumerate(devices):
        assert echoed(clock, device, talker, b"%d" % number)
        assert device.association is not None
        device.association.loseConnection()
        clock.settle()
        assert talker.lost is not None
    assert world.server.associations == []
    assert all(
        echo.lost is not None and echo.lost.check(ConnectionDone) for echo in world.echoes.made
    )
    clock.run_for(10)
    assert clock.calls == []


def test_the_largest_datagram_and_one_that_is_too_large() -> None:
    clock = TestClock()
    world = World(clock)
    device, talker = world.device(A)
    clock.settle()
    assert echoed(clock, device, talker, bytes(16_384))
    assert device.association is not None
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        device.association.write(bytes(16_385))


def test_it_is_dtls_1_2_with_forward_secrecy_and_nothing_older() -> None:
    clock = TestClock()
    world = World(clock)
    device, _ = world.device(A)
    clock.settle()
    assert device.association is not None
    assert device.association.engine.cipher.startswith("ECDHE-")
    with_cbc = DtlsContext(None, [DEVICE_CA.certificate], ciphers=b"ECDHE+AES:!AESGCM:!AESCCM")
    _, talker = world.device(B, with_cbc)
    clock.settle()
    assert not talker.up


def test_the_server_goes_on_with_the_record_number_of_the_hello() -> None:
    clock = TestClock()
    world = World(clock)
    _, talker = world.device(A)
    clock.run_until(lambda: len(world.arrived) == 2)
    # As if it were the ninth that the device has sent.
    second = world.arrived[1]
    world.sent.clear()
    world.server.datagramReceived(second[:5] + (9).to_bytes(6, "big") + second[11:], A)
    assert int.from_bytes(world.sent[0][0][5:11], "big") == 9
    clock.settle()
    assert talker.up


# -- who it is --------------------------------------------------------------


def test_a_device_may_show_a_certificate_and_then_it_must_be_good() -> None:
    clock = TestClock()
    world = World(clock)
    world.device(A, client_context("meter"))
    world.device(B)
    stranger = world.device(("192.0.2.3", 1), client_context("meter", throwaway_ca()))[1]
    clock.settle()
    assert [each.peer_name for each in world.server.associations] == ["meter", ""]
    assert not stranger.up
    assert stranger.lost is not None
    assert "unknown ca" in str(stranger.lost.value)


def test_a_device_refuses_a_proxy_of_another_ca_and_that_costs_the_proxy_nothing() -> None:
    clock = TestClock()
    world = World(clock)
    other = DtlsContext(None, [throwaway_ca().certificate])
    talker = world.device(A, other)[1]
    clock.settle()
    assert talker.lost is not None
    assert "not this end's CA" in str(talker.lost.value)
    assert world.server.associations == []
    clock.run_for(2 * REFUSED_LIMIT + 1)
    assert clock.calls == []


def test_a_revoked_device_stays_out_and_does_not_come_back_by_resumption() -> None:
    clock = TestClock()
    world = World(clock)
    device, _ = world.device(A, context := client_context("meter"))
    clock.settle()
    assert device.association is not None
    session = device.association.engine.session
    credentials = attrs.evolve(
        DEVICE_CA.credentials("proxy"), check_revocation=True, crls=(DEVICE_CA.revoke("meter"),)
    )
    world.server.context = DtlsContext(credentials)
    talker = world.device(B, context, session)[1]
    clock.settle()
    assert not talker.up
    assert talker.lost is not None
    assert "revoked" in str(talker.lost.value)


def test_a_session_is_resumed_with_fewer_bytes() -> None:
    clock = TestClock()
    world = World(clock)
    device, _ = world.device(A, context := client_context("meter"))
    clock.settle()
    assert device.association is not None
    session: SSL.Session | None = device.association.engine.session
    full = sum(len(data) for data, _ in world.sent)
    world.sent.clear()
    again, talker = world.device(B, context, session)
    clock.settle()
    assert sum(len(data) for data, _ in world.sent) < full / 2
    assert echoed(clock, again, talker, b"resumed")
    assert [each.peer_name for each in world.server.associations] == ["meter", "meter"]


# -- a new association from a live address (RFC 6347, 4.2.8) ------------------


def test_a_new_association_from_a_live_address_replaces_the_old_one() -> None:
    clock = TestClock()
    world = World(clock)
    shaken(world, clock, A)
    device, talker = world.device(A)
    clock.settle()
    assert echoed(clock, device, talker, b"anew")
    first, second = world.echoes.made
    assert first.lost is not None
    assert second.lost is None
    assert len(world.server.associations) == 1


def test_the_old_one_goes_on_until_the_new_one_is_complete() -> None:
    clock = TestClock()
    world = World(clock)
    device, talker = world.device(A)
    clock.settle()
    kept = world.devices[A]
    # A second stack at the same address begins; it hears the server, but cannot finish.
    world.device(A, DtlsContext(None, [throwaway_ca().certificate]))
    clock.settle()
    world.devices[A] = kept
    assert echoed(clock, device, talker, b"still here")
    clock.run_for(30)
    assert echoed(clock, device, talker, b"and later")


# -- what strangers can do ----------------------------------------------------


def test_a_hundred_thousand_spoofed_hellos_cost_nothing_and_get_less_than_they_sent() -> None:
    clock = TestClock()
    world = World(clock)
    device, talker = world.device(A)
    clock.settle()
    world.sent.clear()
    sent = 0
    for number in range(100_000):
        data = hello(b"x" * (number % 20), random=number.to_bytes(32, "big"))
        world.server.datagramReceived(data, (f"10.0.{number >> 8 & 255}.{number & 255}", 9))
        sent += len(data)
        answered = sum(len(each) for each, _ in world.sent)
        assert answered <= sent
        if len(world.sent) > 1000:
            sent -= answered
            world.sent.clear()
    assert world.server.peers == 1
    assert echoed(clock, device, talker, b"served")


def test_ten_thousand_forged_errors_end_no_association() -> None:
    clock = TestClock()
    world = World(clock)
    device, talker = world.device(A)
    clock.settle()
    for number in range(10_000):
        alert = record(21, b"\x02" + bytes([number % 256]), number % 2)
        world.server.datagramReceived(alert, A)
        device.datagramReceived(alert, ("192.0.2.200", 5684))
    assert echoed(clock, device, talker, b"still here")


def test_a_forged_alert_does_not_end_a_handshake() -> None:
    clock = TestClock()
    world = World(clock)
    _, talker = world.device(A)
    while not talker.up:
        world.server.datagramReceived(record(21, b"\x02\x28", 0), A)
        assert clock.step()


def test_a_recorded_hello_sent_again_changes_nothing() -> None:
    clock = TestClock()
    world = World(clock)
    device, talker = world.device(A)
    clock.settle()
    world.sent.clear()
    for data in list(world.arrived):
        world.server.datagramReceived(data, A)
    # The first hello is answered as any other; the second begins no handshake.
    hellos = [data for data, _ in world.sent if data[13] == 3]
    assert len(hellos) == 1
    assert not [data for data, _ in world.sent if data[13] == 2]
    assert echoed(clock, device, talker, b"still here")
    assert len(world.echoes.made) == 1


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1", record(25), record(23), hello()[:40]])
def test_what_is_for_nobody_is_counted_and_not_answered(data: bytes) -> None:
    world = World(TestClock())
    world.server.datagramReceived(data, A)
    assert world.server.dropped == 1
    assert world.sent == []


def test_one_address_has_so_many_places_and_others_are_served() -> None:
    clock = TestClock()
    world = World(clock, per_host=3)
    talkers = [world.device(("192.0.2.1", port))[1] for port in range(10, 15)]
    clock.settle()
    assert [talker.up for talker in talkers] == [True, True, True, False, False]
    assert world.server.rejected["no-room"] == 2
    shaken(world, clock, ("192.0.2.2", 1))


def test_an_idle_association_is_closed() -> None:
    clock = TestClock()
    world = World(clock)
    (talker,) = shaken(world, clock, A)
    clock.run_for(IDLE + 10)
    assert talker.lost is not None
    assert clock.calls == []


def test_a_handshake_that_does_not_go_on_is_given_up() -> None:
    clock = TestClock()
    world = World(clock)
    device, talker = world.device(A)
    clock.run_until(lambda: len(world.sent) == 1)
    world.mute = True
    clock.run_until(lambda: talker.lost)
    assert device.association is None
    clock.run_for(100)
    assert clock.calls == []


def test_closing_says_goodbye_to_all() -> None:
    clock = TestClock()
    world = World(clock)
    talkers = shaken(world, clock, A, B)
    world.server.stopProtocol()
    clock.settle()
    assert all(talker.lost is not None for talker in talkers)
    assert clock.calls == []


def test_what_is_discarded_is_forgotten_without_a_word() -> None:
    clock = TestClock()
    world = World(clock)
    (talker,) = shaken(world, clock, A)
    world.sent.clear()
    world.server.discard(A)
    world.server.discard(B)
    clock.settle()
    assert world.sent == []
    assert talker.lost is None
    assert world.echoes.made[0].lost is not None


def test_a_factory_may_refuse() -> None:
    clock = TestClock()
    world = World(clock)
    world.echoes.refuses = True
    talker = world.device(A)[1]
    clock.settle()
    assert talker.lost is not None
    assert world.server.associations == []


def test_new_handshakes_go_by_a_new_context() -> None:
    clock = TestClock()
    world = World(clock)
    device, talker = world.device(A)
    clock.settle()
    world.server.context = server_context()
    shaken(world, clock, B)
    assert echoed(clock, device, talker, b"the old one goes on")
