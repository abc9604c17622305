"""The process that parses strangers' files: real forks, real limits, hostile files, and no trace left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable

import psutil
import pytest

from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.base import MonitorContext
from emperorctl.monitors.outside import OutsideParser
from emperorctl.monitors.parsing import Facts, Order, Parsed, Setting, parse
from emperorctl.monitors.registry import open_source

SETTING = Setting("dir:///v", "/v", "/v", UwsgiRun("uwsgi", None, False), Facts(uid=str(os.getuid())))
HEAVY = b"uwsgi:\n" + b"  a: b\n" * 40_000  # some 0.15 s of CPU


def order(name: str, data: bytes = b"[uwsgi]\nmaster = true\n") -> Order:
    return Order(f"/v/{name}", f"/v/{name}", name, 1, data)


def run(story: Callable[[OutsideParser], Awaitable[None]]) -> None:
    async def main() -> None:
        parser = OutsideParser()
        try:
            await story(parser)
        finally:
            pid = parser.pid
            await parser.aclose()
        assert pid < 0 or not psutil.pid_exists(pid)

    asyncio.run(main())


async def parsed(parser: OutsideParser, orders: list[Order]) -> dict[str, Parsed]:
    said: list[tuple[str, Parsed]] = []
    await parser.parse(orders, SETTING, lambda order, result: said.append((order.identity, result)))
    assert sorted(name for name, _ in said) == sorted(order.identity for order in orders)
    return dict(said)


def test_it_says_what_the_parser_in_the_loop_would_say() -> None:
    orders = [
        order("a.ini"),
        order("b.yaml", b"apiVersion: emperor/v1\nkind: Vassal\nspec: {command: [sleep], env: {A: '%u'}}\n"),
        order("c.yaml", b"kind: Vassal\n"),
        order("d.ini", b""),
        order("e.xml", b"<uwsgi><a/>"),
    ]

    async def story(parser: OutsideParser) -> None:
        assert await parsed(parser, orders) == {order.identity: parse(order, SETTING) for order in orders}

    run(story)


def test_a_file_that_a_child_died_on_costs_only_itself() -> None:
    orders = [order(f"v{index}.ini") for index in range(20)]
    orders[10] = order("heavy.yaml", HEAVY)

    async def story(parser: OutsideParser) -> None:
        said: dict[str, Parsed] = {}

        def deliver(order: Order, result: Parsed) -> None:
            said[order.identity] = result
            if order.identity == "v9.ini":
                for child in psutil.Process(parser.pid).children():
                    child.kill()

        await parser.parse(orders, SETTING, deliver)
        assert list(said)[-1] == "heavy.yaml"  # tried again alone, after all others
        assert len(said) == 20 and all(result.claims for result in said.values())

    run(story)


def test_a_file_that_every_child_dies_on_is_too_complex() -> None:
    async def story(parser: OutsideParser) -> None:
        await parsed(parser, [order("a.ini")])
        helper = psutil.Process(parser.pid)
        task = asyncio.create_task(parsed(parser, [order("heavy.yaml", HEAVY)]))
        while not task.done():
            for child in helper.children():
                child.kill()
            await asyncio.sleep(0.005)
        result = task.result()["heavy.yaml"]
        assert result.problem and result.problem.reason == "TooComplex"
        assert result.fallback_name == "heavy.yaml"
        assert (await parsed(parser, [order("a.ini")]))["a.ini"].claims

    run(story)


def test_the_time_of_a_child_is_limited() -> None:
    async def story(parser: OutsideParser) -> None:
        start = time.monotonic()
        heavy = [order(f"{index}.yaml", HEAVY) for index in range(40)]
        done = await parser._job(heavy, SETTING, lambda *_: None, 20.0)
        assert 0 < done < 40 and time.monotonic() - start < 10

    run(story)


def test_a_child_that_only_waits_is_ended_too() -> None:
    async def story(parser: OutsideParser) -> None:
        mine, theirs = socket.socketpair()
        with mine:
            with theirs:
                assert parser._send({"cpu": 1, "wall": 0.3}, theirs)
            mine.setblocking(False)
            async with asyncio.timeout(10):
                assert await asyncio.get_running_loop().sock_recv(mine, 1) == b""

    run(story)


def test_a_process_that_is_killed_is_started_again() -> None:
    async def story(parser: OutsideParser) -> None:
        assert parser.pid == -1
        await parsed(parser, [order("a.ini")])
        first = parser.pid
        os.kill(first, signal.SIGKILL)
        said = await parsed(parser, [order("a.ini"), order("b.ini")])
        assert all(result.claims for result in said.values())
        assert parser.pid not in (first, -1) and not psutil.pid_exists(first)

    run(story)


def test_it_ends_when_the_emperor_does() -> None:
    async def story(parser: OutsideParser) -> None:
        await parsed(parser, [order("a.ini")])
        assert parser._control is not None
        process = psutil.Process(parser.pid)
        parser._control.close()
        os.waitid(os.P_PIDFD, parser._pidfd, os.WEXITED | os.WNOWAIT)
        assert process.status() == psutil.STATUS_ZOMBIE
        parser._gone()

    run(story)


def test_it_sleeps_when_it_has_nothing_to_do() -> None:
    async def story(parser: OutsideParser) -> None:
        await parsed(parser, [order("a.ini")])
        process = psutil.Process(parser.pid)
        await asyncio.sleep(0.5)  # the child has gone by then
        assert not process.children()
        before = process.cpu_times()
        await asyncio.sleep(1)
        assert process.cpu_times() == before and process.status() == psutil.STATUS_SLEEPING
        assert process.terminal() is None and os.getsid(parser.pid) == parser.pid

    run(story)


def test_a_large_file_is_parsed_outside_of_the_loop(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "large.ini")
    with open(path, "w") as file:
        file.write("[uwsgi]\n" + "env = A=b\n" * 20_000)

    async def main() -> None:
        seen = []
        done = asyncio.Event()

        def publish(report: object) -> None:
            seen.append(report)
            done.set() if getattr(report, "present", None) else None

        context = MonitorContext(publish=publish, uwsgi=UwsgiRun("uwsgi", None, False), warn=lambda *_: None)
        task = asyncio.create_task(open_source(os.fspath(tmp_path), context).run())
        async with asyncio.timeout(20):
            await done.wait()
        assert context.shared.outside.pid > 0
        assert [file.claims[0].name for report in seen for file in report.files] == ["large.ini"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await context.aclose()
        assert context.shared.outside.pid == -1

    asyncio.run(main())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_a_strangers_file_is_parsed_by_nobody(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "theirs.ini")
    with open(path, "w") as file:
        file.write("[uwsgi]\nmaster = true\n")
    os.chown(path, 12345, 12345)

    async def main() -> None:
        seen = []
        done = asyncio.Event()

        def publish(report: object) -> None:
            seen.append(report)
            done.set() if getattr(report, "present", None) else None

        context = MonitorContext(publish=publish, uwsgi=UwsgiRun("uwsgi", None, False), warn=lambda *_: None)
        task = asyncio.create_task(open_source(os.fspath(tmp_path), context).run())
        async with asyncio.timeout(20):
            await done.wait()
        assert context.shared.outside.pid > 0
        assert [file.claims[0].name for report in seen for file in report.files] == ["theirs.ini"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await context.aclose()

    asyncio.run(main())


def limits(pid: int) -> dict[str, str]:
    """The hard limits of a process by the names of /proc."""
    with open(f"/proc/{pid}/limits") as file:
        return {line[:26].strip(): line[47:68].strip() for line in file}


def test_the_child_is_confined() -> None:
    """Looks at the child while it chews on heavy files."""
    heavy = [order(f"{index}.yaml", HEAVY) for index in range(4)]

    async def story(parser: OutsideParser) -> None:
        await parsed(parser, [order("a.ini")])
        task = asyncio.create_task(parsed(parser, heavy))
        helper, child = psutil.Process(parser.pid), None
        while not task.done():
            for child in helper.children():
                try:
                    if child.cpu_times().user < 0.03:
                        continue
                    bounds = limits(child.pid)
                    assert bounds["Max cpu time"] == "1" and bounds["Max file size"] == "0"
                    assert int(bounds["Max open files"]) <= 16 and int(bounds["Max address space"]) < 1 << 30
                    if os.geteuid() == 0:
                        assert set(child.uids()) == set(child.gids()) == {65534}
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    return
                except (psutil.NoSuchProcess, FileNotFoundError):
                    continue
            await asyncio.sleep(0.005)
        pytest.fail("nobody saw the child at work")

    run(story)
