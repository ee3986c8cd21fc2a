"""DNS messages: what is read, what is rewritten, and any input whatever."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.names import dns as names

from tests.fuzz import damaged
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire import dns

UNKNOWN_TYPE = 65280
COOKIE = b"\x00\x0a\x00\x08" + bytes(8)


def query(name: str = "www.example", kind: int = names.A, number: int = 7, **flags: bool) -> bytes:
    """An ordinary question as Twisted makes it."""
    message = names.Message(id=number, recDes=1)
    message.queries = [names.Query(name.encode(), kind)]
    data: bytes = message.toStr()
    return data


def with_opt(
    message: bytes, size: int = 4096, flags: bytes = b"\0\0", options: bytes = b""
) -> bytes:
    opt = b"\0\0\x29" + size.to_bytes(2, "big") + b"\0\0" + flags
    return message[:11] + b"\1" + message[12:] + opt + len(options).to_bytes(2, "big") + options


def reply(
    *answers: names.RRHeader, authority: tuple[names.RRHeader, ...] = (), code: int = 0
) -> bytes:
    message = names.Message(id=7, answer=1, rCode=code)
    message.queries = [names.Query(b"www.example", names.A)]
    message.answers = list(answers)
    message.authority = list(authority)
    data: bytes = message.toStr()
    return data


def record(payload: Any, ttl: int, name: bytes = b"www.example") -> names.RRHeader:
    kind = getattr(payload, "TYPE", None) or UNKNOWN_TYPE
    return names.RRHeader(name, kind, ttl=ttl, payload=payload)


ADDRESS = names.Record_A("192.0.2.1", ttl=300)
SOA = names.Record_SOA(b"ns.example", b"h.example", 1, 2, 3, 4, minimum=60, ttl=900)
SIGNED = with_opt(query())[:-11] + b"\0\0\xfa\0\xff\0\0\0\0\0\0"


def test_a_question_is_read_up_to_its_edns_record() -> None:
    plain = dns.parse_question(query())
    assert plain.plain
    assert plain.section == b"\3www\7example\0\0\1\0\1"
    assert (plain.edns, plain.udp_size) == (None, 512)
    extended = dns.parse_question(with_opt(query(), 1400, options=COOKIE))
    assert extended.plain
    assert extended.udp_size == 1400
    assert dns.parse_question(with_opt(query(), 100)).udp_size == 512


@pytest.mark.parametrize(
    "message",
    [
        b"",
        query()[:11],
        query()[:-1],
        query()[:14],
        reply(record(ADDRESS, 300)),
        query()[:12] + b"\x81" + query()[13:],
        query()[:12] + b"\xc0",
        with_opt(query())[:-3],
        query()[:12] + b"\x3f" + bytes([63, *b"a" * 63]) * 5 + b"\0\0\1\0\1",
    ],
)
def test_what_is_no_question_is_refused(message: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        dns.parse_question(message)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(query()[:2] + b"\x28\0" + query()[4:], id="update"),
        pytest.param(SIGNED, id="signed"),
        pytest.param(query() + b"more", id="bytes behind it"),
        pytest.param(with_opt(query()) + b"more", id="bytes behind its OPT record"),
        pytest.param(query()[:5] + b"\0" + query()[6:], id="no question"),
    ],
)
def test_what_is_not_an_ordinary_question_is_told_apart(message: bytes) -> None:
    assert not dns.parse_question(message).plain


def test_the_query_for_the_next_hop_has_no_options_of_this_one() -> None:
    question = dns.parse_question(with_opt(query(number=1), 4096, b"\x80\0", COOKIE))
    sent = dns.make_query(question, 9)
    assert sent == with_opt(query(number=9), dns.UDP_SIZE, b"\x80\0")
    assert dns.make_query(dns.parse_question(query()), 7) == query()


def test_questions_that_differ_in_case_or_id_only_have_the_same_key() -> None:
    def key(message: bytes) -> bytes:
        return dns.parse_question(message).key

    assert key(query("WWW.example", number=1)) == key(query("www.EXAMPLE", number=2))
    assert key(query()) != key(query("www.example2"))
    # 65 and 97 are 'A' and 'a'.
    assert key(query(kind=65)) != key(query(kind=97))
    assert key(query()) != key(with_opt(query()))
    assert key(with_opt(query())) != key(with_opt(query(), flags=b"\x80\0"))
    assert key(with_opt(query(), 512)) == key(with_opt(query(), 4096, options=COOKIE))


def test_failures_and_truncated_answers_repeat_the_question() -> None:
    asked = with_opt(query("WwW.example"))
    failed = names.Message()
    failed.fromStr(dns.failure(asked, dns.SERVFAIL))
    assert (failed.id, failed.answer, failed.rCode) == (7, 1, 2)
    assert failed.queries[0].name.name == b"WwW.example"
    short = dns.truncated(reply(record(ADDRESS, 1), code=3), query())
    message = names.Message()
    message.fromStr(short)
    assert (message.trunc, message.rCode, message.answers) == (1, 3, [])
    assert dns.is_truncated(short)
    assert not dns.is_truncated(reply())
    assert dns.failure(b"\0\7\0\0" + b"\xff" * 8, dns.FORMERR)[3] & 15 == dns.FORMERR


def test_an_answer_has_to_have_the_id_and_the_question() -> None:
    good = reply(record(ADDRESS, 1))
    assert dns.answers(good, query())
    assert dns.answers(good, query("WWW.Example"))
    assert not dns.answers(good, query(number=8))
    assert not dns.answers(good, query("www.example2"))
    assert not dns.answers(good, query(kind=names.AAAA))
    assert not dns.answers(query(), query())
    assert not dns.answers(good[:11], query())
    assert not dns.answers(good, b"\0\7\0\0\0\1\0\0\0\0\0\0\x81")
    assert dns.answers(b"\0\7\x80\5" + bytes(8), query())
    assert not dns.answers(b"\0\7\x80\0" + bytes(8), query())


def test_the_question_of_an_answer_is_spelled_as_it_was_asked() -> None:
    spelled = dns.parse_question(query("WwW.eXample")).section
    assert dns.with_question(reply(), spelled)[12 : 12 + len(spelled)] == spelled
    assert dns.with_question(b"\0\7\x80\5" + bytes(8), spelled) == b"\0\7\x80\5" + bytes(8)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (reply(record(ADDRESS, 300), record(ADDRESS, 200)), 200),
        (reply(record(names.UnknownRecord(b"\xff" * 9), 5)), 5),
        (reply(authority=(record(SOA, 900, b"example"),), code=3), 60),
        (reply(authority=(record(SOA, 30, b"example"),)), 30),
        (reply(record(ADDRESS, 1 << 31)), 0),
        (reply(), None),
        (reply(code=3), None),
        (reply(authority=(record(names.Record_NS(b"ns.example"), 900, b"example"),)), None),
        (reply(record(ADDRESS, 300), code=2), None),
        (dns.truncated(reply(record(ADDRESS, 300)), query()), None),
    ],
)
def test_how_long_an_answer_lives(answer: bytes, seconds: int | None) -> None:
    life = dns.lifetime(answer)
    assert (life and life.seconds) == seconds


def test_signed_answers_are_not_kept() -> None:
    good = bytearray(reply(record(ADDRESS, 300)) + b"\0\0\xfa\0\xff\0\0\0\0\0\0")
    good[11] = 1
    assert dns.lifetime(bytes(good)) is None


@pytest.mark.parametrize("cut", [11, 13, 30, 35, 40, -1])
def test_an_answer_that_is_cut_short_has_no_life(cut: int) -> None:
    with pytest.raises(RemoteProtocolError):
        dns.lifetime(reply(record(ADDRESS, 300))[:cut])


def test_records_age_and_edns_does_not() -> None:
    answer = bytearray(with_opt(reply(record(ADDRESS, 300), record(ADDRESS, 10)), 1232, b"\x80\0"))
    life = dns.lifetime(bytes(answer))
    assert life is not None
    older = names.Message()
    older.fromStr(dns.aged(bytes(answer), life.offsets, 20))
    assert [one.ttl for one in older.answers] == [280, 0]
    assert dns.aged(bytes(answer), life.offsets, 20)[-6:] == bytes(answer)[-6:]
    assert dns.aged(bytes(answer), life.offsets, 0) == answer


def test_a_stream_is_taken_apart_wherever_it_is_cut() -> None:
    stream = dns.framed(query()) + dns.framed(reply()) + dns.framed(query())
    for cut in range(len(stream)):
        messages = dns.Messages()
        found = messages.receive(stream[:cut]) + messages.receive(stream[cut:])
        assert found == [query(), reply(), query()]
    with pytest.raises(RemoteProtocolError):
        dns.Messages().receive(b"\0\x0b")


def test_any_bytes_are_a_message_or_a_protocol_error() -> None:
    for data in damaged([query(), with_opt(query(), options=COOKIE), reply(record(SOA, 3))]):
        for read in (dns.parse_question, dns.lifetime):
            try:
                read(data)
            except RemoteProtocolError:
                pass
        dns.answers(data, query())
        if len(data) >= dns.HEADER:
            assert len(dns.failure(data, dns.SERVFAIL)) <= len(data) + 11
