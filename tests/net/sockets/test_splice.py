"""The pool of pipes."""

from __future__ import annotations

import fcntl
import os

import pytest

from tunnelkit.net.sockets import splice
from tunnelkit.net.sockets.splice import PIPE_SIZE, PipePool


def test_pipes_hold_a_mebibyte_and_are_used_again() -> None:
    pool = PipePool()
    pipe = pool.take()
    assert pipe is not None
    assert fcntl.fcntl(pipe[0], 1032) == PIPE_SIZE  # F_GETPIPE_SZ
    pool.give_back(pipe)
    assert pool.take() == pipe
    pool.discard(pipe)


def test_no_more_than_the_cap_and_one_that_was_discarded_may_be_replaced() -> None:
    pool = PipePool(most=2)
    first, second = pool.take(), pool.take()
    assert first is not None
    assert second is not None
    assert pool.take() is None
    pool.discard(first)
    third = pool.take()
    assert third is not None
    pool.give_back(second)
    pool.give_back(third)
    before = len(os.listdir("/dev/fd"))
    pool.close_idle()
    assert len(os.listdir("/dev/fd")) == before - 4


def test_a_refusal_by_the_kernel_is_remembered_until_the_pool_is_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = PipePool()
    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(splice, "PIPE_SIZE", 3 << 30)
    assert pool.take() is None
    assert len(os.listdir("/dev/fd")) == before
    monkeypatch.undo()
    assert pool.take() is None
    pool.close_idle()
    pipe = pool.take()
    assert pipe is not None
    pool.discard(pipe)


def test_without_splice_there_are_no_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "AVAILABLE", False)
    assert PipePool().take() is None
