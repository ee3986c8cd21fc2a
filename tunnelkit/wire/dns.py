"""DNS messages as far as a forwarder needs them (RFC 1035, 2308, 6891, 7766).

A message is passed on as it came; only its id, the ages of its records and, in
questions, the EDNS options that are meant for the next hop alone are rewritten.
So records of any type pass, known here or not.
"""

from __future__ import annotations

import struct

import attrs

from tunnelkit.errors import RemoteProtocolError

MAX_MESSAGE = 65_535
"""Bytes of a message: what the 2-byte length before it can say."""
HEADER = 12
SMALLEST_UDP = 512
"""Bytes of an answer that every client takes over UDP."""
UDP_SIZE = 1232
"""Bytes of a UDP answer that passes every network unfragmented, for our own OPT records."""

POINTER = 0xC0
"""The bits of a length that say: the name goes on elsewhere."""
LONGEST_NAME = 255
"""Bytes of a name, its lengths included."""

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5

_QR, _TC, _RD, _RA, _AD, _CD = 0x8000, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_OPCODE = 0x7800
_SOA, _OPT, _TSIG, _SIG = 6, 41, 250, 24
_NO_EDNS = bytes(6)
_COUNTS = struct.Struct(">6H")
_FIXED = struct.Struct(">HHIH")


def _malformed(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"DNS message: {what}")


def skip_name(message: bytes, at: int) -> int:
    """Where the name that starts at ``at`` ends; raises `RemoteProtocolError`."""
    start = at
    while True:
        if at >= len(message) or at - start > LONGEST_NAME:
            raise _malformed("a name does not end")
        length = message[at]
        if length == 0:
            return at + 1
        if length & POINTER == POINTER:
            if at + 2 > len(message):
                raise _malformed("a name does not end")
            return at + 2
        if length & POINTER:
            raise _malformed("a label of an unknown kind")
        at += 1 + length


def id_of(message: bytes) -> int:
    """The id; the message has at least 2 bytes."""
    return message[0] << 8 | message[1]


def with_id(message: bytes, number: int) -> bytes:
    """The same message with another id."""
    return number.to_bytes(2, "big") + message[2:]


@attrs.frozen
class Question:
    """What the beginning of a query says."""

    section: bytes
    """The question section: name, type and class, as sent."""
    flags: int
    edns: bytes | None
    """Class and TTL of the OPT record (RFC 6891: size, extended code, version, flags; 6 bytes)."""
    plain: bool
    """An ordinary query: one question, at most an OPT record, nothing else."""

    @property
    def is_transfer(self) -> bool:
        """Whether it asks for a whole zone, which many messages answer."""
        return self.section[-4:-2] in (b"\0\xfb", b"\0\xfc")

    @property
    def udp_size(self) -> int:
        """Bytes of the largest answer that the client takes over UDP."""
        if self.edns is None:
            return SMALLEST_UDP
        return max(SMALLEST_UDP, int.from_bytes(self.edns[:2], "big"))

    @property
    def key(self) -> bytes:
        """The same for queries that one answer serves; only of plain ones."""
        wanted = self.flags & (_RD | _AD | _CD)
        edns = b"" if self.edns is None else b"E" + self.edns[2:]
        return wanted.to_bytes(2, "big") + self.section[:-4].lower() + self.section[-4:] + edns


def parse_question(message: bytes) -> Question:
    """Read a query; raises `RemoteProtocolError` if it is none that can be answered.

    A message that is not an ordinary query (an update, a signed one) is read up
    to its question.
    """
    if len(message) < HEADER:
        raise _malformed("shorter than its header")
    _, flags, questions, answers, authority, additional = _COUNTS.unpack_from(message)
    if flags & _QR:
        raise _malformed("an answer, not a query")
    at = HEADER
    for _ in range(questions):
        at = skip_name(message, at) + 4
        if at > len(message):
            raise _malformed("the question does not end")
    section = message[HEADER:at]
    plain = questions == 1 and answers == authority == 0 and not flags & (_OPCODE | _TC)
    edns = None
    if plain and additional == 1 and message[at : at + 3] == b"\0\0\x29":
        if at + 11 > len(message):
            raise _malformed("the OPT record does not end")
        edns = message[at + 3 : at + 9]
        plain = at + 11 + int.from_bytes(message[at + 9 : at + 11], "big") == len(message)
    else:
        plain = plain and additional == 0 and at == len(message)
    return Question(section, flags, edns, plain)


def make_query(question: Question, number: int) -> bytes:
    """A plain query for the next hop: no EDNS options (they are each hop's own), its own size."""
    flags = question.flags & (_RD | _AD | _CD)
    head = _COUNTS.pack(number, flags, 1, 0, 0, 0 if question.edns is None else 1)
    if question.edns is None:
        return head + question.section
    return head + question.section + opt_record(question.edns, UDP_SIZE)


def opt_record(edns: bytes, udp_size: int) -> bytes:
    """An OPT record with ``udp_size``, and version and flags of ``edns``; no options."""
    return b"\0\0\x29" + udp_size.to_bytes(2, "big") + edns[2:] + b"\0\0"


def failure(query: bytes, code: int) -> bytes:
    """The answer that says no more than ``code``: to a query whose header is complete."""
    try:
        question = parse_question(query)
    except RemoteProtocolError:
        question = Question(b"", int.from_bytes(query[2:4], "big"), None, False)
    return _empty(query, question, code, 0)


def truncated(answer: bytes, query: bytes) -> bytes:
    """``answer`` without its records, with the bit that says: ask again over TCP."""
    question = parse_question(query)
    flags = int.from_bytes(answer[2:4], "big")
    return _empty(query, question, flags & 0x000F, flags & 0x0400 | _TC)


def _empty(query: bytes, question: Question, code: int, more: int) -> bytes:
    flags = _QR | more | question.flags & (_OPCODE | _RD | _CD) | _RA | code
    section = question.section if question.plain else b""
    edns = question.edns if question.plain else None
    head = _COUNTS.pack(id_of(query), flags, int(bool(section)), 0, 0, int(edns is not None))
    return head + section + (b"" if edns is None else opt_record(_NO_EDNS, UDP_SIZE))


def answers(answer: bytes, query: bytes) -> bool:
    """Whether ``answer`` has the id and the question of ``query``: what its sender must know."""
    if len(answer) < HEADER or not answer[2] & 0x80 or answer[:2] != query[:2]:
        return False
    if answer[4:6] == b"\0\0":
        # An error may come without the question (RFC 1035 says nothing of it, servers do it).
        return answer[3] & 0x0F != NOERROR
    try:
        end = skip_name(query, HEADER)
    except RemoteProtocolError:
        return False
    return (
        answer[HEADER:end].lower() == query[HEADER:end].lower()
        and answer[end : end + 4] == query[end : end + 4]
    )


def with_question(answer: bytes, section: bytes) -> bytes:
    """``answer`` with the question spelled as ``section``, which is the same but for case."""
    if answer[4:6] != b"\0\1":
        return answer
    return answer[:HEADER] + section + answer[HEADER + len(section) :]


def code_of(answer: bytes) -> int:
    """What became of the question: `NOERROR`, `NXDOMAIN`, ..."""
    return answer[3] & 0x0F


def is_truncated(answer: bytes) -> bool:
    """Whether there is more than the answer says."""
    return bool(answer[2] & (_TC >> 8))


@attrs.frozen
class Lifetime:
    """How long an answer may be told again, and where its ages stand."""

    seconds: int
    offsets: tuple[int, ...]
    """Of the 4-byte TTLs in the message."""


def lifetime(answer: bytes) -> Lifetime | None:
    """How long ``answer`` may be kept; None: not at all (RFC 2308 for negative ones).

    Raises `RemoteProtocolError` for a message that cannot be read.
    """
    if len(answer) < HEADER:
        raise _malformed("shorter than its header")
    _, flags, questions, *counts = _COUNTS.unpack_from(answer)
    code = flags & 0x000F
    if flags & _TC or code not in (NOERROR, NXDOMAIN):
        return None
    at = HEADER
    for _ in range(questions):
        at = skip_name(answer, at) + 4
    offsets: list[int] = []
    ages: list[int] = []
    has_answer = counts[0] > 0 and code == NOERROR
    has_soa = False
    for section, count in enumerate(counts):
        for _ in range(count):
            at = skip_name(answer, at)
            if at + 10 > len(answer):
                raise _malformed("a record does not end")
            kind, _, ttl, size = _FIXED.unpack_from(answer, at)
            end = at + 10 + size
            if end > len(answer):
                raise _malformed("a record does not end")
            if kind in (_TSIG, _SIG):
                return None
            if kind != _OPT:
                offsets.append(at + 4)
                ages.append(ttl if ttl < 1 << 31 else 0)  # RFC 2181, section 8
                if kind == _SOA and section == 1 and size >= 22:
                    has_soa = True
                    ages.append(int.from_bytes(answer[end - 4 : end], "big"))
            at = end
    if not ages or not (has_answer or has_soa):
        return None
    return Lifetime(min(ages), tuple(offsets))


def aged(answer: bytes, offsets: tuple[int, ...], seconds: int) -> bytes:
    """``answer`` with each of its TTLs less by ``seconds``, down to 0."""
    if not seconds:
        return answer
    copy = bytearray(answer)
    for at in offsets:
        left = int.from_bytes(copy[at : at + 4], "big") - seconds
        copy[at : at + 4] = max(left, 0).to_bytes(4, "big")
    return bytes(copy)


def framed(message: bytes) -> bytes:
    """``message`` behind its length, as a stream carries it."""
    return len(message).to_bytes(2, "big") + message


class Messages:
    """Takes a stream of messages, each behind its length, apart."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[bytes]:
        """The messages that are complete now; raises `RemoteProtocolError` for one too short."""
        buffer = self._buffer
        buffer += data
        found = []
        at = 0
        while len(buffer) - at >= 2:
            size = buffer[at] << 8 | buffer[at + 1]
            if size < HEADER:
                raise _malformed("shorter than its header")
            if len(buffer) - at - 2 < size:
                break
            found.append(bytes(buffer[at + 2 : at + 2 + size]))
            at += 2 + size
        del buffer[:at]
        return found
