"""An LSTP mux and the tables of trusted sockets (rows T1, T2)."""

from __future__ import annotations

import pytest

from tests.core.lstp.ends import End, Talk
from tunnelkit.core.lstp.events import ServicesChanged
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux import contract as t
from tunnelkit.core.socket_table import SocketTable, TrustedSocket
from tunnelkit.errors import Code
from tunnelkit.wire import lstp


def published(end: End) -> list[tuple[lstp.Service, ...] | None]:
    """The tables in the PROPERTY_EXCHANGEs that ``end`` sends now."""
    return [said.services for _, said in end.says() if isinstance(said, lstp.PropertyExchange)]


def publishing(*entries: TrustedSocket) -> tuple[End, SocketTable]:
    """An end that publishes what is in the table."""
    table = SocketTable()
    for entry in entries:
        table.add(entry)
    end = End(True)
    end.mux = LstpMux(True, MuxConfig(), end.now, published=table)
    return end, table


def test_what_is_published_is_in_the_first_properties_and_then_with_every_change() -> None:
    end, table = publishing(TrustedSocket("web", end_of_web := 1060.0, 8080, "tcp:10.0.0.1:80"))
    assert published(end) == [(lstp.Service("web", end_of_web - end.now, 8080),)]
    end.mux.trusted.announce(end.now)
    assert published(end) == []
    table.add(TrustedSocket("git"))
    end.mux.trusted.announce(end.now + 10)
    assert published(end) == [(lstp.Service("web", 50.0, 8080), lstp.Service("git"))]
    table.withdraw("git")
    table.withdraw("web")
    end.mux.trusted.announce(end.now)
    assert published(end) == [()]


def test_an_end_that_publishes_nothing_says_nothing_of_it() -> None:
    end, _ = publishing()
    assert published(end) == [None]


def test_the_table_of_the_far_side_comes_with_its_properties_and_ends_by_its_times() -> None:
    end = End(True)
    services = (lstp.Service("web", 60.0, 8080), lstp.Service("git", 90.0))
    end.hears(lstp.PropertyExchange(services=services))
    web = TrustedSocket("web", end.now + 60, 8080)
    git = TrustedSocket("git", end.now + 90)
    assert end.events == [t.TunnelUp(""), ServicesChanged((web, git))]
    # The same again, for longer: nothing that is open is to be touched.
    end.hears(lstp.PropertyExchange(services=(services[0], lstp.Service("git", 95.0))))
    end.hears(lstp.PropertyExchange())
    assert len(end.events) == 2
    while (due := end.mux.next_deadline() or 0) < 1060:
        end.now = due
        end.hears(lstp.PropertyExchange())
        end.note(end.mux.deadline_passed(due))
        end.says()
    assert due == 1060
    assert len(end.events) == 2
    end.note(end.mux.deadline_passed(1060.0))
    assert end.events[2:] == [ServicesChanged((TrustedSocket("git", 1095.0),))]
    end.now = 1061.0
    end.hears(lstp.PropertyExchange(services=()))
    assert end.events[3:] == [ServicesChanged(())]


@pytest.mark.parametrize("name", ["never", "ended", "withdrawn"])
def test_nothing_is_sent_for_a_service_that_is_not_published_now(name: str) -> None:
    end = End(True)
    end.hears(
        lstp.PropertyExchange(services=(lstp.Service("withdrawn"), lstp.Service("ended", 60.0)))
    )
    if name == "withdrawn":
        end.hears(lstp.PropertyExchange(services=(lstp.Service("ended", 60.0),)))
    end.says()
    # Whether or not anybody has looked at the time in between.
    end.now += 60.0 if name == "ended" else 1.0
    with pytest.raises(t.LimitReached) as refused:
        end.mux.open(f"service:{name}", end.now)
    assert refused.value.code is Code.NO_SUCH_SERVICE
    assert end.says() == []
    assert end.mux.channels() == []


def test_services_of_the_protocol_itself_are_not_in_the_table() -> None:
    end = Talk().near
    end.mux.open("service:@dns", end.now)
    assert end.says()[0][1] == lstp.ConnectionRequest(service="@dns")


def test_further_connections_go_by_the_table_of_the_first() -> None:
    first = Talk().near
    further = End(True, parent=first.mux)
    further.hears(lstp.PropertyExchange(services=(lstp.Service("git"),)))
    assert further.events == [t.TunnelUp("")]
    with pytest.raises(t.LimitReached):
        further.mux.open("service:git", further.now)
    first.hears(lstp.PropertyExchange(services=(lstp.Service("web", 60.0),)))
    further.mux.open("service:web", further.now)
    with pytest.raises(t.LimitReached):
        further.mux.open("service:web", further.now + 60)
