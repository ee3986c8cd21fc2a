"""Answers of resolvers, made from what was asked."""

from __future__ import annotations

from twisted.names import dns as names

from tunnelkit.core.dns_exchange import Ask


def question(ask: Ask) -> tuple[str, int]:
    """Name and type that were asked for."""
    query = _parsed(ask).queries[0]
    return query.name.name.decode(), query.type


def answering(ask: Ask, *addresses: str) -> bytes:
    """These addresses; none: the name has none of that type."""
    message = _parsed(ask)
    message.answer = 1
    name = message.queries[0].name.name
    for address in addresses:
        payload = (
            names.Record_AAAA(address, ttl=9) if ":" in address else names.Record_A(address, ttl=9)
        )
        message.answers.append(names.RRHeader(name, payload.TYPE, ttl=9, payload=payload))
    data: bytes = message.toStr()
    return data


def coded(ask: Ask, code: int) -> bytes:
    """No more than a code."""
    message = _parsed(ask)
    message.answer, message.rCode = 1, code
    data: bytes = message.toStr()
    return data


def truncated(ask: Ask) -> bytes:
    """That there is more over TCP."""
    message = _parsed(ask)
    message.answer = message.trunc = 1
    data: bytes = message.toStr()
    return data


def _parsed(ask: Ask) -> names.Message:
    message = names.Message()
    message.fromStr(ask.message)
    return message
