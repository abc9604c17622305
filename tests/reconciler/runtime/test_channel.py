"""The channel to one vassal: floods, last words, and an end that reads nothing."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from emperorctl.models.observed import Signs
from emperorctl.reconciler.runtime.protocol import Channel


@dataclass
class Speaker:
    """A launch, as far as the channel knows it."""

    name: str = "shop"
    signs: Signs = Signs()
    questions: int = 0

    def asked(self) -> None:
        self.questions += 1


def test_hundreds_of_thousands_of_bytes_wake_once() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        wakes: list[Signs] = []
        speaker = Speaker()
        channel = Channel(loop, ours, speaker, lambda: wakes.append(speaker.signs))
        async with asyncio.timeout(20):
            await loop.sock_sendall(theirs, b"\x11" * 300_000)
            theirs.close()
            while speaker.signs.closed is None:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert len(wakes) == 2
        assert wakes[0].loyal is not None
        assert not channel.send(1)

    asyncio.run(scene())


def test_last_words_are_heard_at_the_close() -> None:
    async def scene() -> None:
        ours, theirs = socket.socketpair()
        speaker = Speaker()
        channel = Channel(asyncio.get_running_loop(), ours, speaker, lambda: None)
        with theirs:
            theirs.send(b"\x16")
            channel.close()
        assert speaker.signs.will is not None
        assert speaker.signs.closed is None

    asyncio.run(scene())


def test_a_vassal_that_reads_nothing_does_not_block() -> None:
    async def scene() -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(asyncio.get_running_loop(), ours, Speaker(), lambda: None)
        with theirs:
            assert channel.send(1)
            assert theirs.recv(10) == b"\x01"
            while channel.send(0):
                pass
            assert not channel.send(0)
        assert not channel.send(0)
        channel.close()

    asyncio.run(scene())


def test_a_question_for_the_config_wakes_nobody() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        wakes: list[Signs] = []
        speaker = Speaker()
        channel = Channel(loop, ours, speaker, lambda: wakes.append(speaker.signs))
        theirs.send(b"\x02")
        async with asyncio.timeout(20):
            while not speaker.questions:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert speaker.questions == 1
        assert not wakes
        assert speaker.signs == Signs()
        channel.close()
        theirs.close()

    asyncio.run(scene())
