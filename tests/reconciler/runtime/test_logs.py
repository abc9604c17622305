"""The log store in one process: the test holds the write end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from emperorctl.models.status import Note
from emperorctl.models.vassal import Logs
from emperorctl.reconciler.runtime.logs import LogStore


async def until(facts: list[str]) -> None:
    async with asyncio.timeout(20):
        while not facts:  # noqa: ASYNC110
            await asyncio.sleep(0)


def test_from_pipe_to_file_and_follower(tmp_path: Path) -> None:
    async def scene() -> None:
        notes: list[tuple[str, Note]] = []
        store = LogStore(asyncio.get_running_loop(), str(tmp_path), lambda name, note: notes.append((name, note)))
        ended: list[str] = []
        following = store.follow("a", 10)
        first = asyncio.create_task(anext(following))
        pipe, writing = store.open("a", Logs(max_size=100, max_files=5), os.getuid(), lambda: ended.append("a"))
        os.write(writing, b"one\n")
        assert await first == b"one\n"
        os.write(writing, b"two\n")
        assert await anext(following) == b"two\n"
        assert await store.tail("a", 1) == b"two\n"
        os.close(writing)
        await until(ended)
        assert pipe.fd == -1
        await following.aclose()
        store.forget("a")
        assert Path(store.path("a")).read_bytes() == b"one\ntwo\n"
        assert not notes
        store.close()

    asyncio.run(scene())


def test_what_is_in_the_pipe_at_the_close_is_kept(tmp_path: Path) -> None:
    async def scene() -> None:
        store = LogStore(asyncio.get_running_loop(), str(tmp_path), lambda name, note: None)
        _, writing = store.open("a", Logs(), os.getuid(), lambda: None)
        os.write(writing, b"last words")
        store.close()
        os.close(writing)
        assert Path(store.path("a")).read_bytes() == b"last words"

    asyncio.run(scene())


def test_a_disk_that_refuses_keeps_the_data_in_the_pipe_and_says_so_once(tmp_path: Path) -> None:
    async def scene() -> None:
        notes: list[str] = []
        store = LogStore(asyncio.get_running_loop(), str(tmp_path), lambda name, note: notes.append(note.reason))
        ended: list[str] = []
        _, writing = store.open("a", Logs(), os.getuid(), lambda: ended.append("a"))
        obstacle = Path(store.path("a"))
        obstacle.mkdir()
        os.write(writing, b"kept\n")
        await until(notes)
        obstacle.rmdir()
        os.close(writing)
        await until(ended)
        assert notes == ["LogWriteFailed", "LogWriteRecovered"]
        assert obstacle.read_bytes() == b"kept\n"
        store.close()

    asyncio.run(scene())
