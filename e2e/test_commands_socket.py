"""The command socket, waiting for a command, and files that suspend their vassals, with real processes."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Emperor
from emperorctl.models.packets import write_packet

Make = Callable[..., Emperor]
SLEEPER = ["sleep", "1000"]
NOBODY = 65534


def send(path: Path, data: bytes) -> None:
    """One datagram to the command socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(path))
        sender.send(data)


def command(path: Path, **pairs: str) -> None:
    """One command, in uWSGI's packet."""
    send(path, write_packet({key.encode(): value.encode() for key, value in pairs.items()}))


def made(emperor: Make, *options: str) -> tuple[Emperor, Path]:
    """An Emperor that is not started yet, and its command socket."""
    one = emperor(*options)
    path = one.root / "commands"
    one.options.append(f"--emperor-command-socket={path}")
    return one, path


def warnings(e: Emperor, reason: str) -> list[str]:
    """What the Emperor has warned of under this reason."""
    return [event["message"] for event in e.events() if (event["type"], event["reason"]) == ("Warning", reason)]


def why(e: Emperor, name: str) -> str:
    """What `describe` says of why it does not run."""
    lines = e.cli("describe", "vassal", name).stdout.splitlines()
    return next(line for line in lines if line.startswith("Why:"))


def reason(e: Emperor, name: str) -> Any:
    """Why it is not ready, in one word."""
    return e.condition(name, "Ready").get("reason")


def test_vassals_wait_for_spawn_and_go_back_to_waiting_at_stop(emperor: Make) -> None:
    e, path = made(emperor, "--emperor-wait-for-command", "--emperor-wait-for-command-ignore=free")
    e.manifest("shop", SLEEPER)
    e.manifest("free", SLEEPER)
    e.start()
    e.wait_running("free")
    e.wait_phase("shop", "Suspended")
    assert reason(e, "shop") == "WaitingForCommand"
    assert "waiting for the command spawn" in why(e, "shop")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    command(path, cmd="spawn", vassal="shop")
    first = e.wait_running("shop")
    command(path, cmd="respawn", vassal="shop")
    second = e.wait_running("shop", other_than=first)
    command(path, command="stop", vassal="shop")
    e.wait_phase("shop", "Suspended")
    assert reason(e, "shop") == "WaitingForCommand"

    command(path, cmd="spawn", vassal="shop")
    third = e.wait_running("shop", other_than=second)
    assert e.cli("stop", "shop").returncode == 0
    e.wait_phase("shop", "Suspended")
    command(path, cmd="spawn", vassal="shop")
    e.wait_for(lambda: warnings(e, "CommandRefused"), what="a command does not undo a person's stop")
    assert e.phase("shop") == "Suspended"
    assert e.cli("start", "shop").returncode == 0
    e.wait_running("shop", other_than=third)

    e.stop()
    assert not path.exists()
    e.start()
    e.wait_phase("shop", "Suspended")
    assert reason(e, "shop") == "WaitingForCommand"
    assert e.cli("start", "shop").returncode == 0
    e.wait_running("shop")


def test_a_message_comes_into_the_log_as_an_event(emperor: Make) -> None:
    e, path = made(emperor)
    e.start()
    command(path, cmd="log", msg="the router sees nobody\n\x1b[31m")
    said = "the router sees nobody\\x0a\\x1b[31m"
    e.wait_log(said)
    (event,) = (event for event in e.events() if event["reason"] == "CommandLog")
    assert (event["message"], event["involvedObject"]["kind"]) == (said, "Emperor")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x00\xff\xff\x00\x03\x00cmd", "its header says that 65535 bytes follow, and 5 do"),
        (b"\x00\x05\x00\x00\xff\xffcmd", "the length at 4 says 65535 bytes, and only 3 are left"),
        (b"\x00\x05\x00\x00\x03\x00cmd", "the last name has no value"),
        (b"GET / HTTP/1.1\r\n\r\n", "is no packet"),
        (b"\x00" * 5000, "is longer than 4096 bytes"),
        (b"", "0 bytes are less than a header of 4"),
    ],
)
def test_a_packet_that_lies_is_a_warning_and_no_more(emperor: Make, data: bytes, says: str) -> None:
    e, path = made(emperor, "--emperor-wait-for-command")
    e.manifest("shop", SLEEPER)
    e.start()
    send(path, data)
    e.wait_for(lambda: [text for text in warnings(e, "BadCommand") if says in text], what=says)
    command(path, cmd="spawn", vassal="shop")
    e.wait_running("shop")


def test_a_flood_of_garbage_starves_nobody(emperor: Make) -> None:
    e, path = made(emperor, "--emperor-wait-for-command")
    e.manifest("shop", SLEEPER)
    e.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(path))
        for number in range(3000):
            sender.send(os.urandom(number % 400))
            if number % 500 == 0:
                assert e.api("GET", "/healthz").status == 200
    command(path, cmd="spawn", vassal="shop")
    e.wait_running("shop")


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Be somebody without any rights for a moment; the kernel tells receivers the real user."""
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_strangers_may_not_command_even_where_they_reach_the_socket(emperor: Make) -> None:
    e, path = made(emperor, "--emperor-wait-for-command")
    e.manifest("shop", SLEEPER)
    e.start()
    with pytest.raises(PermissionError), nobody():
        command(path, cmd="spawn", vassal="shop")
    path.chmod(0o666)
    with nobody():
        command(path, cmd="spawn", vassal="shop")
    (said,) = e.wait_for(lambda: warnings(e, "Forbidden"), what="the stranger is refused")
    assert said.startswith(f"uid {NOBODY} ")
    assert e.phase("shop") == "Suspended"


def test_a_file_suspends_its_vassal_and_only_the_file_ends_that(emperor: Make) -> None:
    e = emperor().start()
    e.manifest("shop", SLEEPER)
    first = e.wait_running("shop")
    e.manifest("shop", SLEEPER, suspend=True)
    e.wait_phase("shop", "Suspended")
    assert reason(e, "shop") == "SuspendedByFile"
    assert "spec.suspend is true" in why(e, "shop")
    assert str(e.vassals / "shop.yaml") in why(e, "shop")

    done = e.cli("start", "shop")
    assert done.returncode == 1
    assert "set spec.suspend to false in" in done.stderr
    assert e.phase("shop") == "Suspended"

    e.manifest("shop", SLEEPER, suspend=False)
    e.wait_running("shop", other_than=first)


@pytest.mark.parametrize("address", ["127.0.0.1:4040", "@emperor", "/nowhere/" + "x" * 120])
def test_an_address_that_will_not_do_is_refused_before_anything_starts(emperor: Make, address: str) -> None:
    e = emperor(f"--emperor-command-socket={address}")
    e.manifest("shop", SLEEPER)
    e.start(ready=False)
    assert e.wait() == 1
    assert "error: --emperor-command-socket: " in e.log()
    with contextlib.suppress(FileNotFoundError):
        assert not os.listdir(e.logs)
