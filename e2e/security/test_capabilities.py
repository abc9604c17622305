"""Which capabilities a vassal has, as the kernel tells; and that no program gives it more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from e2e.harness import Emperor
from e2e.security.inside import PYTHON, TENANT, launch, status_line, told

Make = Callable[..., Emperor]

pytestmark = pytest.mark.as_root
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NET_BIND, CHOWN = 10, 0


def sets(court: Emperor, name: str) -> dict[str, int]:
    pid = court.main_pid(name)
    assert pid is not None
    return {key: int(status_line(pid, key), 16) for key in SETS}


def test_another_user_has_none_and_can_gain_none(emperor: Make) -> None:
    court = emperor().start()
    told(court, "tenant", user=str(TENANT))
    assert sets(court, "tenant") == dict.fromkeys(SETS, 0)
    pid = court.main_pid("tenant")
    assert pid is not None
    assert status_line(pid, "NoNewPrivs") == "1"
    assert status_line(pid, "Groups") == ""
    assert status_line(pid, "Uid").split() == [str(TENANT)] * 4


def test_root_keeps_what_the_emperor_has_unless_told_otherwise(emperor: Make) -> None:
    court = emperor().start()
    told(court, "root")
    told(court, "bare", isolation={"capabilities": []})
    told(court, "some", isolation={"capabilities": ["chown", "net_bind_service"]})
    mine = int(status_line(court.pid, "CapEff"), 16)
    assert sets(court, "root")["CapEff"] == mine
    assert sets(court, "bare") == dict.fromkeys(SETS, 0)
    kept = 1 << NET_BIND | 1 << CHOWN
    assert sets(court, "some") == dict.fromkeys(SETS, kept)


@pytest.mark.parametrize("cell", [False, True])
def test_those_that_are_kept_reach_the_program(emperor: Make, cell: bool) -> None:
    court = emperor().start()
    code = f"""
here = os.path.realpath("{court.root}")
told["bind"] = attempt(lambda: socket.create_server(("127.0.0.1", 81)).close())
told["chown"] = attempt(os.chown, here + "/mine", 0, 0)
"""
    (court.root / "mine").touch()
    os.chown(court.root / "mine", TENANT, TENANT)
    isolation: dict[str, Any] = {"capabilities": ["CAP_NET_BIND_SERVICE"]}
    if cell:
        isolation["namespaces"] = ["pid", "net", "mount"]
    seen = told(court, "web", code, user=str(TENANT), isolation=isolation)
    assert seen == {"": None, "bind": "done", "chown": "EPERM"}
    assert sets(court, "web") == dict.fromkeys(SETS, 1 << NET_BIND)
    seen = told(court, "none", code, user=str(TENANT))
    assert seen["bind"] in ("EACCES", "done")  # a host may allow that port to everybody
    assert sets(court, "none")["CapEff"] == 0


SETUID = """
done = subprocess.run(["{program}", "-p", "-c", "id -u"], capture_output=True, text=True)
told["uid"] = done.stdout.strip()
"""


def setuid_shell(court: Emperor) -> str:
    """A shell with set-user-id bits, root's."""
    program = court.root / "shell"
    shutil.copy2(os.path.realpath("/bin/sh"), program)
    program.chmod(0o4755)
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        pytest.skip("set-user-id bits count for nothing on this file system")
    return str(program)


@pytest.mark.parametrize("isolation", [None, {"namespaces": ["pid", "net"]}, {"privateDevices": True}])
def test_a_setuid_program_gives_nothing(emperor: Make, isolation: dict[str, Any] | None) -> None:
    court = emperor().start()
    code = SETUID.format(program=setuid_shell(court))
    spec = {} if isolation is None else {"isolation": isolation}
    assert told(court, "tenant", code, user=str(TENANT), **spec)["uid"] == str(TENANT)


def test_a_setuid_program_works_where_that_is_asked_for(emperor: Make) -> None:
    court = emperor().start()
    code = SETUID.format(program=setuid_shell(court))
    seen = told(court, "sudoer", code, user=str(TENANT), isolation={"noNewPrivileges": False})
    assert seen["uid"] == "0"
    pid = court.main_pid("sudoer")
    assert pid is not None
    # The program is root's, and has no capability all the same.
    assert status_line(pid, "NoNewPrivs") == "0"
    assert sets(court, "sudoer")["CapBnd"] == 0


def test_hooks_of_the_vassals_user_gain_nothing_either(emperor: Make) -> None:
    court = emperor().start()
    place = court.root / "told"
    place.mkdir()
    os.chown(place, TENANT, TENANT)
    own = {"command": ["sh", "-c", f"grep -E 'NoNew|CapBnd' /proc/self/status > {place}/own"]}
    emperors = {"command": ["sh", "-c", f"grep NoNew /proc/self/status > {court.root}/emperors"], "asEmperor": True}
    told(court, "hooked", user=str(TENANT), hooks={"preStart": [own, emperors]})
    assert "NoNewPrivs:\t1" in (place / "own").read_text()
    assert "CapBnd:\t0000000000000000" in (place / "own").read_text()
    assert "NoNewPrivs:\t0" in (court.root / "emperors").read_text()


def puppet(court: Emperor) -> str:
    wrapper = court.root / "wrapper"
    wrapper.write_text(f"#!{PYTHON} -IS\nimport time\nprint('there', flush=True)\ntime.sleep(1000)\n")
    wrapper.chmod(0o755)
    return str(wrapper)


@pytest.mark.parametrize("option", ["--emperor-cap", "--vassal-cap", "--vassals-cap"])
def test_capabilities_for_all(emperor: Make, option: str) -> None:
    court = emperor(f"{option}=setuid, net_bind_service")
    court.options.append(f"--emperor-wrapper={puppet(court)}")
    court.start()
    court.write("a.ini", "[uwsgi]\n")
    court.wait_running("a.ini")
    kept = 1 << 7 | 1 << NET_BIND
    assert sets(court, "a.ini") == dict.fromkeys(SETS, kept)
    told(court, "native")
    assert sets(court, "native") == dict.fromkeys(SETS, kept)
    told(court, "tenant", user=str(TENANT))
    assert sets(court, "tenant") == dict.fromkeys(SETS, 0)
    launch(court, "greedy", "", isolation={"capabilities": ["sys_admin"]})
    found = court.wait_condition("greedy", "Accepted", "False")
    assert "sys_admin, which the Emperor keeps from all vassals" in found["message"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--emperor-cap=setuid,root", '--emperor-cap: expected names of capabilities'),
        ("--emperor-use-clone=fs,everything", '--emperor-use-clone: expected fs, net, ipc, pid, uts, user or cgroup'),
        ("--emperor-use-clone=,", "--emperor-use-clone: expected "),
    ],
)  # fmt: skip
def test_words_that_mean_nothing_are_refused(emperor: Make, option: str, said: str) -> None:
    court = emperor(option)
    court.start(ready=False)
    assert court.wait() != 0
    assert said in court.log()
