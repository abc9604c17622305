"""What manifests of an Emperor have in common, and what their strings may hold, seen by the processes themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Emperor

HEAD = "apiVersion: emperor/v1\nkind: Vassal\n"
STRANGER = 12345
SECRET = "hunter2"  # of the test's own Emperor

Make = Callable[..., Emperor]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")


def _environ(e: Emperor, name: str) -> dict[str, str]:
    """The environment of a vassal's process, as the kernel knows it."""
    pid = e.wait_running(name)
    # The pid is known a moment before the program has replaced the child that execs it.
    data = e.wait_for(lambda: _started(pid), what=f"{name} has executed its program")
    return dict(item.split("=", 1) for item in data.decode().split("\0") if item)


def _started(pid: int) -> bytes | None:
    data = Path(f"/proc/{pid}/environ").read_bytes()
    return data if b"EMPEROR_VASSAL_NAME=" in data else None


def _words(e: Emperor, name: str) -> list[str]:
    pid = e.wait_running(name)
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def _shell(e: Emperor, name: str, *words: str, **spec: Any) -> Path:
    return e.manifest(name, ["sh", "-c", "sleep 1000; :", *words], **spec)


def _defaults(e: Emperor, text: str) -> Path:
    return e.write(e.root / "defaults.yaml", HEAD + text)


def _refusal(e: Emperor, name: str) -> str:
    """Why a file that never was right is not."""
    condition = e.wait_condition(name, "Accepted", "False")
    message: str = condition["message"]
    return message


def test_a_process_is_told_who_it_is(emperor: Make) -> None:
    e = emperor().start()
    _shell(e, "a", "%(vassal.name)", "%(vassal.index)", "%(vassal.uid):%(vassal.gid)", "%(vassal.file)")
    told = _environ(e, "a")
    assert told["EMPEROR_VASSAL_NAME"] == "a" and told["EMPEROR_VASSAL_GENERATION"] == "1"
    assert told["EMPEROR_VASSAL_MONITOR"] == f"dir://{e.vassals}"
    assert told["EMPEROR_VASSAL_INDEX"] == "0"
    ids = f"{os.geteuid()}:{os.getegid()}"
    assert _words(e, "a")[3:] == ["a", "0", ids, f"{e.vassals}/a.yaml"]
    found = e.get("a")
    assert found is not None and found["status"]["index"] == 0
    assert found["spec"]["command"][3:] == ["a", "0", ids, f"{e.vassals}/a.yaml"]


def test_an_index_is_a_vassals_own_as_long_as_it_lives_and_then_the_next_ones(emperor: Make) -> None:
    e = emperor().start()
    for number, name in enumerate("abc"):
        _shell(e, name, env={"PORT": "80%(vassal.index)"})
        assert _environ(e, name)["PORT"] == f"80{number}"
    pid = e.wait_running("b")
    _shell(e, "b", env={"PORT": "90%(vassal.index)"})
    e.wait_running("b", other_than=pid)
    assert _environ(e, "b")["PORT"] == "901"
    (e.vassals / "b.yaml").unlink()
    e.wait_absent("b")
    _shell(e, "d", env={"PORT": "80%(vassal.index)"})
    assert _environ(e, "d")["PORT"] == "801"
    assert _environ(e, "c")["EMPEROR_VASSAL_INDEX"] == "2"


def test_hooks_and_ids_are_filled_in_too(emperor: Make) -> None:
    if os.geteuid() != 0:
        pytest.skip("runs a vassal as another user")
    e = emperor().start()
    said = e.root / "said"
    hook = {"command": ["sh", "-c", f"echo %(vassal.name)-%(vassal.index)-%(vassal.uid) > {said}"], "asEmperor": True}
    _shell(e, "a", user="nobody", env={"ID": "%(vassal.uid)"}, hooks={"preStart": hook})
    told = _environ(e, "a")
    assert told["ID"] == told["EMPEROR_VASSAL_INDEX"].replace("0", "65534") and said.read_text() == "a-0-65534\n"


def test_variables_environment_and_files(emperor: Make) -> None:
    e = emperor(env={"SECRET": SECRET}).start()
    (e.vassals / "token").write_text("50%$(x)\n")
    spec: dict[str, Any] = {
        "vars": {"root": "/srv/%n", "data": "%(root)/data"},
        "env": {"DATA": "%(data)", "KEY": "@(token)", "S": "$(SECRET)", "LITERAL": "%% $$(HOME) @@(x) $(id -u)"},
    }
    _shell(e, "shop", **spec)
    told = _environ(e, "shop")
    assert (told["DATA"], told["KEY"], told["S"]) == ("/srv/shop/data", "50%$(x)", SECRET)
    assert told["LITERAL"] == "% $(HOME) @(x) $(id -u)"
    assert "SECRET" not in told


@pytest.mark.parametrize(
    ("spec", "reason", "says"),
    [
        ("env: {A: '%(nope)'}", "UnknownVariable", ":4:8: spec.env.A: the variable %(nope) is not known"),
        ("env: {A: '$(EMPERORS_NOPE)'}", "UnknownVariable", "EMPERORS_NOPE is not set"),
        ("vars: {a: 'x%(b)', b: '%(a)'}", "CyclicVariable", "refers to itself: %(a) → %(b) → %(a)"),
        ("env: {A: '@(fifo)'}", "NotRegular", "the file fifo is not a regular file"),
        ("env: {A: '@(big)'}", "TooLarge", "has more than 64 KiB"),
        ("env: {A: '@(missing)'}", "NotFound", "the file missing does not exist"),
        ("env: {A: '@(open/link)'}", "LinkRefused", "over the link link, which others may have made"),
        ("user: '%(vassal.uid)'", "KnownTooLate", "known only when it is started"),
    ],
)
@pytest.mark.parametrize("owner", [None, pytest.param(STRANGER, marks=needs_root)])
def test_a_bad_placeholder_stops_nothing_that_runs(
    emperor: Make, spec: str, reason: str, says: str, owner: int | None
) -> None:
    e = emperor().start()
    os.mkfifo(e.vassals / "fifo")
    (e.vassals / "big").write_bytes(b"x" * 70_000)
    shared = e.vassals / "open"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "link").symlink_to("/etc/hostname")
    _shell(e, "a")
    pid = e.wait_running("a")
    draft = e.root / "draft"
    draft.write_text(f"{HEAD}spec: {{command: [x],\n {spec}}}\n")
    if owner is not None:
        os.chown(draft, owner, owner)
    draft.rename(e.vassals / "a.yaml")
    message = e.wait_condition("a", "Accepted", "False")["message"]
    if owner is None or "$(" not in spec:
        assert says in message and f"{e.vassals}/a.yaml:4" in message
        assert reason in {event["reason"] for event in e.events("a")}
    else:
        assert "parsed as a stranger's" in message
    assert e.wait_running("a") == pid


def test_a_mebibyte_of_expansion_is_an_error_and_costs_little(emperor: Make) -> None:
    e = emperor().start()
    _shell(e, "bystander")
    pid = e.wait_running("bystander")
    laughs = {f"v{n}": f"%(v{n + 1})" * 10 for n in range(40)} | {"v40": "ha" * 50}
    _shell(e, "laughs", vars=laughs)
    assert "1 MiB or more" in _refusal(e, "laughs")
    _shell(e, "text", vars={"a": "x" * 1000}, env={f"A{n}": "%(a)" * 20 for n in range(55)})
    assert "1 MiB or more" in _refusal(e, "text")
    assert e.wait_running("bystander") == pid


@needs_root
def test_a_strangers_manifest_learns_no_secret(emperor: Make) -> None:
    e = emperor(env={"SECRET": SECRET, "TZ": "Europe/Berlin"}).start()
    private = e.root / "private"
    private.write_text(SECRET)
    private.chmod(0o600)
    for name, text in {"env": "$(SECRET)", "file": f"@({private})", "few": "$(TZ) @(/etc/passwd)"}.items():
        draft = e.root / "draft"
        draft.write_text(f"{HEAD}spec: {{command: [sleep, '1000'], env: {{A: '{text}'}}}}\n")
        os.chown(draft, STRANGER, STRANGER)
        draft.rename(e.vassals / f"{name}.yaml")
    assert "$(SECRET) is not for this file" in _refusal(e, "env")
    assert "may not be read" in _refusal(e, "file")
    assert _environ(e, "few")["A"].startswith("Europe/Berlin root:")
    assert SECRET not in json.dumps(e.objects()) and SECRET not in json.dumps(e.events())


def test_defaults_and_settings_are_merged_and_shown_with_where_they_come_from(emperor: Make) -> None:
    e = emperor("--vassal-defaults=defaults.yaml", "--vassal-set", "spec.env.TZ=UTC", "--vassal-set", "spec.umask=027")
    (e.root / "token").write_text("t\n")
    _defaults(
        e,
        "metadata: {labels: {team: web}}\nspec:\n  env: {A: '1', B: '%(vassal.name)', K: '@(token)'}\n  nice: 3\n",
    )
    e.start()
    e.write("shop.yaml", HEAD + "spec:\n  command: [sleep, '1000']\n  env: {A: null, TZ: X, C: c}\n")
    told = _environ(e, "shop")
    assert (told["B"], told["C"], told["TZ"], told["K"]) == ("shop", "c", "UTC", "t") and "A" not in told
    assert os.getpriority(os.PRIO_PROCESS, e.wait_running("shop")) == 3
    found = e.get("shop")
    assert found is not None
    assert found["metadata"]["labels"] == {"team": "web"} and found["spec"]["umask"] == "027"
    origins = found["status"]["origins"]
    assert origins["spec.env.B"] == f"{e.root}/defaults.yaml:5" and origins["spec.env.TZ"] == "--vassal-set"
    assert origins["spec.env.C"] == f"{e.vassals}/shop.yaml:5" and origins["spec.stop"] == "default"
    said = e.cli("describe", "vassal", "shop").stdout
    lines = {tuple(line.split()) for line in said.partition("Origins:")[2].splitlines()}
    assert {
        ("spec.nice:", f"{e.root}/defaults.yaml:6"),
        ("spec.env.TZ:", "--vassal-set"),
        ("spec.command:", f"{e.vassals}/shop.yaml:4"),
        ("spec.logs:", "default"),
    } <= lines


def test_defaults_are_edited_live_and_a_broken_file_changes_nothing(emperor: Make) -> None:
    e = emperor("--vassal-defaults=defaults.yaml")
    _defaults(e, "spec: {env: {A: '1'}, nice: 1}\n")
    e.start()
    _shell(e, "follows")
    _shell(e, "own", env={"A": "x"}, nice=0)
    first, own = e.wait_running("follows"), e.wait_running("own")
    assert _environ(e, "follows")["A"] == "1"
    _defaults(e, "spec: {env: {A: '2'}, nice: 1}\n")
    second = e.wait_running("follows", other_than=first)
    assert _environ(e, "follows")["A"] == "2"
    assert e.wait_running("own") == own, "its content is the same as before"
    _defaults(e, "spec: {env: {A: '3'}, nicee: 1}\n")
    e.wait_log("defaults.yaml:3:")
    e.wait_log("the last good defaults stay")
    assert any(event["reason"] == "UnknownField" for event in e.events())
    _shell(e, "late")
    assert _environ(e, "late")["A"] == "2"
    assert e.wait_running("follows") == second
    # A comment replaces nobody.
    _defaults(e, "# a comment\nspec: {env: {A: '2'}, nice: 1}\n")
    e.wait_for(lambda: (e.get("late") or {})["status"]["origins"]["spec.nice"].endswith(":4"), what="the line moves")
    assert e.wait_running("follows") == second and e.wait_running("own") == own
    # What can't be used by one vassal alone is that one's problem.
    _defaults(e, "spec: {env: {A: '%(mine)'}, nice: 1}\n")
    assert "defaults.yaml:3" in e.wait_condition("follows", "Accepted", "False")["message"]
    assert e.wait_running("follows") == second


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--vassal-defaults=defaults.yaml"], "defaults.yaml:4:3: spec.nicee: is not a known field"),
        (["--vassal-defaults=missing.yaml"], "missing.yaml: does not exist"),
        (["--vassal-set", "spec.nice=much"], 'spec.nice=much: expected an integer, got "much"'),
        (["--vassal-set", "spec.comand=[a]"], "did you mean `command`?"),
        (["--vassal-set", "metadata.name=x"], "every vassal has a name of its own"),
    ],
)
def test_the_emperor_does_not_start_with_what_is_wrong(emperor: Make, options: list[str], says: str) -> None:
    e = emperor(*options)
    _defaults(e, "spec:\n  nicee: 1\n")
    e.start(ready=False)
    assert e.wait() == 1
    assert says in e.log()


def test_validate_knows_them_too(emperor: Make) -> None:
    e = emperor()
    _defaults(e, "spec: {command: [sleep, '1000']}\n")
    e.write("a.yaml", HEAD)
    assert e.cli("validate", str(e.vassals)).returncode == 1
    done = e.cli("validate", "--vassal-defaults", "defaults.yaml", "--vassal-set", "spec.nice=1", str(e.vassals))
    assert done.returncode == 0, done.stderr


def test_a_crowd_follows_its_defaults(emperor: Make) -> None:
    """Many at once: every one is looked at again, none is left behind, and the Emperor answers meanwhile."""
    e = emperor("--vassal-defaults=defaults.yaml")
    _defaults(e, "spec: {stop: {gracePeriod: 5s}}\n")
    for number in range(100):
        e.manifest(f"v{number}", ["sleep", "1000"])
    e.start()
    e.wait_for(lambda: sum(o["status"]["phase"] == "Running" for o in e.objects().values()) == 100, what="all run")
    pids = {name: e.main_pid(name) for name in e.objects()}
    _defaults(e, "spec: {stop: {gracePeriod: 6s}}\n")

    def graces() -> set[str]:
        return {found["spec"]["stop"]["gracePeriod"] for found in e.objects().values()}

    e.wait_for(lambda: graces() == {"6s"}, what="all have the new defaults")
    assert {name: e.main_pid(name) for name in pids} == pids, "a stop period replaces no process"
