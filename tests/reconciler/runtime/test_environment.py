"""What a vassal finds in its environment."""

from __future__ import annotations

from dataclasses import replace

from emperorctl.models.sockets import OnDemand, Passing, parse_address
from emperorctl.models.vassal import Kind, Launch, Owner, Vassal
from emperorctl.reconciler.runtime.environment import DEFAULT_PATH, Environments
from emperorctl.reconciler.runtime.identity import Identity

SHOP = Identity(1005, 1005, (1005,), "shop", "/home/shop", "/bin/bash", switch=True)
COOKIE = "abc.1234.7"


def env(launch: Launch, environ: dict[str, str]) -> dict[str, str]:
    return Environments(environ).of(Vassal("a", Kind.NATIVE, "s", "f", launch), 3, SHOP, COOKIE)


def test_native_is_built_from_nothing() -> None:
    found = env(
        Launch(("a",), env=(("X", "1"),)),
        {"SECRET": "x", "TZ": "UTC", "LC_ALL": "C", "LANG": "de", "LD_PRELOAD": "/evil.so", "PATH": "/bin"},
    )
    assert found == {
        "PATH": "/bin",
        "TZ": "UTC",
        "LC_ALL": "C",
        "LANG": "de",
        "HOME": "/home/shop",
        "USER": "shop",
        "LOGNAME": "shop",
        "SHELL": "/bin/bash",
        "EMPEROR_VASSAL_NAME": "a",
        "EMPEROR_VASSAL_GENERATION": "3",
        "X": "1",
        "EMPERORCTL_INSTANCE": COOKIE,
    }


def test_uwsgi_inherits_with_few_exceptions() -> None:
    found = env(
        Launch(("uwsgi",), inherit_env=True, protocol=True),
        {
            "A": "b",
            "HOME": "/root",
            "NOTIFY_SOCKET": "/run/n",
            "WATCHDOG_USEC": "30000000",
            "WATCHDOG_PID": "1",
            "UWSGI_RELOADS": "3",
            "UWSGI_EMPEROR_FD": "9",
            "UWSGI_VASSAL_WORKERS": "4",
            "UWSGI_WORKERS": "1",
            "EMPERORCTL_SOCKET": "/x",
            "EMPERORCTL_INSTANCE": "outer.1.1",
        },
    )
    assert found == {
        "A": "b",
        "HOME": "/root",
        "UWSGI_WORKERS": "4",
        "UWSGI_EMPEROR_FD": "3",
        "EMPERORCTL_INSTANCE": COOKIE,
    }


def test_what_the_file_declares_wins_but_not_over_what_finds_the_process_again() -> None:
    declared = (("PATH", "/opt/bin"), ("HOME", "/srv"), ("EMPERORCTL_INSTANCE", "forged"), ("UWSGI_EMPEROR_FD", "0"))
    found = env(Launch(("a",), env=declared, protocol=True), {})
    assert (found["PATH"], found["HOME"]) == ("/opt/bin", "/srv")
    assert (found["EMPERORCTL_INSTANCE"], found["UWSGI_EMPEROR_FD"]) == (COOKIE, "3")


def test_a_path_is_always_there() -> None:
    assert env(Launch(("a",)), {})["PATH"] == DEFAULT_PATH


def test_a_notification_socket_and_the_heartbeat_that_is_due_over_it() -> None:
    declared = (("NOTIFY_SOCKET", "/mine"), ("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "1"))
    outer = {"NOTIFY_SOCKET": "/outer", "WATCHDOG_USEC": "2"}
    asks = Vassal("a", Kind.NATIVE, "s", "f", Launch(("a",), env=declared))
    found = Environments(outer, 0.5).of(asks, 3, SHOP, COOKIE, "/run/e.notify/7")
    assert (found["NOTIFY_SOCKET"], found["WATCHDOG_USEC"]) == ("/run/e.notify/7", "500000")
    assert "WATCHDOG_PID" not in found
    found = Environments(outer, 0.0).of(asks, 3, SHOP, COOKIE, "/run/e.notify/7")
    assert "WATCHDOG_USEC" not in found
    found = Environments(outer, 30.0).of(Vassal("a", Kind.NATIVE, "s", "f", Launch(("a",))), 3, SHOP, COOKIE)
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(found)


def test_the_numbers_of_the_descriptors_follow_their_order() -> None:
    found = env(Launch(("uwsgi",), inherit_env=True, protocol=True, config_pipe=True), {"UWSGI_EMPEROR_FD_CONFIG": "9"})
    assert (found["UWSGI_EMPEROR_FD"], found["UWSGI_EMPEROR_FD_CONFIG"]) == ("3", "4")
    found = env(Launch(("uwsgi",), inherit_env=True, protocol=True), {"UWSGI_EMPEROR_FD_CONFIG": "9"})
    assert "UWSGI_EMPEROR_FD_CONFIG" not in found


def test_sockets_come_first_and_are_named() -> None:
    addresses = (parse_address(":80"), replace(parse_address("@x"), name="second"))
    vassal = Vassal("a", Kind.NATIVE, "s", "f", Launch(("a",), protocol=True, config_pipe=True))
    environments = Environments({"LISTEN_FDS": "9", "LISTEN_PID": "1", "LISTEN_FDNAMES": "systemds"})
    one = replace(vassal, on_demand=OnDemand(addresses, Passing.LISTEN_FDS))
    found = environments.of(one, 1, SHOP, COOKIE)
    assert (found["LISTEN_FDS"], found["LISTEN_FDNAMES"]) == ("2", "a:second")
    assert "LISTEN_PID" not in found, "only the process itself knows"
    assert (found["UWSGI_EMPEROR_FD"], found["UWSGI_EMPEROR_FD_CONFIG"]) == ("5", "6")
    found = environments.of(replace(vassal, on_demand=OnDemand(addresses[:1], Passing.STDIN)), 1, SHOP, COOKIE)
    assert "LISTEN_FDS" not in found and found["UWSGI_EMPEROR_FD"] == "3"


def test_what_systemd_gave_the_emperor_is_not_inherited() -> None:
    given = {"LISTEN_FDS": "9", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x", "A": "1"}
    assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & env(Launch(("uwsgi",), inherit_env=True), given).keys()


def test_a_tenants_gets_what_is_meant_for_vassals_and_nothing_else_of_the_emperors() -> None:
    launch = Launch(("uwsgi",), inherit_env=True, protocol=True)
    vassal = Vassal("a", Kind.UWSGI, "s", "f", launch, owner=Owner(1005, 1005))
    environ = {"SECRET": "x", "PATH": "/bin", "UWSGI_VASSAL_COLOUR": "blue", "HOME": "/root", "USER": "root"}
    found = Environments(environ).of(vassal, 3, SHOP, COOKIE)
    assert "SECRET" not in found and found["UWSGI_COLOUR"] == "blue" and found["UWSGI_EMPEROR_FD"] == "3"
    assert (found["HOME"], found["USER"], found["PATH"]) == ("/home/shop", "shop", "/bin")
