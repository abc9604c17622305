"""Bad input costs only itself: a condition and an event that say where and what to do, and everybody else goes on.

One Emperor reigns over the whole module, with a bystander that has to keep its pid and answer a touch within two
seconds whatever is thrown in beside it. Every file is tried twice: as one of the Emperor's own user, parsed in its
loop, and as a stranger's, parsed by the bounded worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Emperor, Household, alive

BYSTANDER = """
import os, signal, sys
marks = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
signal.signal(signal.SIGHUP, lambda *_: os.write(marks, b"x"))
os.write(marks, b".")
while True:
    signal.pause()
"""
FAKE_UWSGI = """\
import os
fd = int(os.environ["UWSGI_EMPEROR_FD"])
os.write(fd, b"\\x01\\x05")
while (byte := os.read(fd, 1)) not in (b"", b"\\x00"):
    os.write(fd, b"\\x01\\x05")
"""
STRANGER = 12345
MiB = 1024 * 1024
HEAD = "apiVersion: emperor/v1\nkind: Vassal\n"
SLEEP = "spec: {command: [sleep, '1000']}\n"
J_HEAD = '"apiVersion": "emperor/v1", "kind": "Vassal"'


class Reign:
    """The Emperor of this module, and the bystander whose life must not change."""

    def __init__(self, household: Household, directory: Path) -> None:
        uwsgi = directory / "uwsgi"
        uwsgi.write_text(f"#!{sys.executable} -IS\n{FAKE_UWSGI}")
        uwsgi.chmod(0o755)
        self.emperor = Emperor(household, f"--binary-path={uwsgi}").start()
        self.marks = directory / "marks"
        self.bystander = self.emperor.manifest(
            "bystander", [sys.executable, "-ISc", BYSTANDER, self.marks], reload={"signal": "SIGHUP"}
        )
        self.pid = self.emperor.wait_running("bystander")
        self.emperor.wait_for(lambda: self.marks.exists() and self.marks.read_bytes(), what="the bystander listens")

    def put(self, name: str | bytes, data: bytes | str, owner: int | None) -> Path:
        """A file that appears whole, with its owner."""
        draft = self.emperor.root / "draft"
        draft.write_bytes(data if isinstance(data, bytes) else data.encode())
        if owner is not None:
            os.chown(draft, owner, owner)
        target = self.emperor.vassals / os.fsdecode(name)
        os.rename(draft, target)
        return target

    def of_file(self, shown: str) -> dict[str, Any] | None:
        """The vassal that a file is shown under."""
        path = f"{self.emperor.vassals}/{shown}"
        return next((each for each in self.emperor.objects().values() if each["status"]["file"] == path), None)

    def refusal(self, shown: str, reason: str) -> str:
        """Wait until the file is refused for this reason, in a condition and an event; the condition's message."""

        def look() -> tuple[str, str, str] | None:
            found = self.of_file(shown)
            if found is None:
                return None
            accepted = next(each for each in found["status"]["conditions"] if each["type"] == "Accepted")
            if accepted["status"] != "False":
                return None
            return found["metadata"]["name"], accepted["reason"], accepted["message"]

        name, seen, message = self.emperor.wait_for(look, what=f"{shown} is refused")
        assert seen == reason, message
        told = [
            event
            for event in self.emperor.events(name)
            if event["type"] == "Warning" and event["reason"] == reason and f"/{shown}" in event["message"]
        ]
        assert told, self.emperor.events(name)
        assert message.split("; generation")[0] == told[-1]["message"]
        return message

    def unharmed(self) -> None:
        """The bystander still is who it was, and a touch of its file is followed within two seconds."""
        before = self.marks.stat().st_size
        os.utime(self.bystander)
        self.emperor.wait_for(lambda: self.marks.stat().st_size > before, 2.0, "the bystander is told of the touch")
        assert self.emperor.main_pid("bystander") == self.pid
        assert alive(self.pid)

    def gone(self, shown: str) -> None:
        """Wait until nothing is known of a file that was removed."""
        self.emperor.wait_for(lambda: self.of_file(shown) is None, what=f"{shown} is forgotten")


@pytest.fixture(scope="module")
def reign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reign]:
    household = Household()
    made = None
    try:
        made = Reign(household, tmp_path_factory.mktemp("reign"))
        yield made
        complaints = made.emperor.close()
    finally:
        leftovers = household.close()
        if made is not None:
            made.emperor.remove()
    assert not leftovers and not complaints, f"{leftovers} {complaints}"


@pytest.fixture(params=["own", pytest.param("strangers", marks=pytest.mark.as_root)])
def owner(request: pytest.FixtureRequest) -> int | None:
    return STRANGER if request.param == "strangers" else None


def nested_aliases(levels: int) -> str:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return HEAD + "spec:\n  command: [a]\n  env:\n" + "".join(f"    {row}\n" for row in rows)


def merge_keys(levels: int) -> str:
    rows = ["a0: &a0 {x: y, z: w}"]
    rows += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return HEAD + "spec:\n  command: [a]\n  env:\n" + "".join(f"    {row}\n" for row in rows)


# name of the file, its bytes, the reason, and what the message must hold (with `:N:` where a line is known)
FILES: dict[str, tuple[str, bytes | str, str, str]] = {
    "ini without a section": ("x.ini", "[other]\nmaster = true\n", "NoUwsgiSection", "only other"),
    "ini not UTF-8": ("x.ini", b"[uwsgi]\nname = caf\xe9\n", "NotUtf8", ":2:"),
    "ini empty": ("x.ini", "", "Empty", "remove the file"),
    "ini of comments": ("x.ini", "; nothing\n# here\n", "Empty", "comments"),
    "ini with NUL": ("x.ini", "[uwsgi]\na = \0\n", "Binary", ":2:"),
    "ini of 10 MiB": ("x.ini", "[uwsgi]\n" + "a = b\n" * (10 * MiB // 6), "TooLarge", "expected at most"),
    "ini with BOM": ("x.ini", b"\xef\xbb\xbf[uwsgi]\n", "ByteOrderMark", "without BOM"),
    "xml malformed": ("x.xml", "<uwsgi>\n <a>1</b>\n</uwsgi>\n", "InvalidSyntax", ":2:"),
    "xml empty": ("x.xml", " \n", "Empty", "remove the file"),
    "xml not UTF-8": ("x.xml", b"<uwsgi>\n<a>\xe9</a></uwsgi>", "NotUtf8", ":2:"),
    "xml entities": ("x.xml", '<!DOCTYPE uwsgi [<!ENTITY a "b">]>\n<uwsgi/>', "ForbiddenXml", "remove the DOCTYPE"),
    "xml external entity": (
        "x.xml",
        '<?xml version="1.0"?>\n<!DOCTYPE u [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<uwsgi><a>&x;</a></uwsgi>',
        "ForbiddenXml",
        ":2:",
    ),
    "xml deep": ("x.xml", "<uwsgi>" * 50_000, "TooComplex", ":1:"),
    "yaml malformed": ("x.yaml", HEAD + "spec: [\n", "InvalidSyntax", ":4:"),
    "yaml with tabs": ("x.yml", HEAD + "spec:\n\tcommand: [a]\n", "InvalidSyntax", ":4:"),
    "yaml not UTF-8": ("x.yaml", HEAD.encode() + b"# \xff\xfe\n", "NotUtf8", ":3:"),
    "yaml empty": ("x.yaml", "", "Empty", "remove the file"),
    "yaml of comments": ("x.yml", "# nothing\n---\n# here\n", "Empty", "remove the file"),
    "yaml of 10 MiB": ("x.yaml", HEAD + "# comment\n" * MiB, "TooLarge", "expected at most"),
    "yaml of neither kind": ("x.yaml", "a: b\n", "Unrecognised", "kind: Vassal"),
    "yaml uwsgi malformed": ("x.yaml", "uwsgi:\n  a: 'b\n", "InvalidSyntax", ":3:"),
    "yaml billion laughs": ("x.yaml", nested_aliases(12), "TooComplex", ":10:"),
    "yaml merge keys": ("x.yaml", merge_keys(9), "TooComplex", ":10:"),
    "yaml recursive alias": ("x.yaml", HEAD + "spec: &a [*a]\n", "RecursiveAlias", ":3:"),
    "yaml python object": (
        "x.yaml",
        HEAD + "spec: {command: !!python/object/apply:os.system [id]}\n",
        "UnknownTag",
        ":3:",
    ),
    "yaml deep": ("x.yaml", HEAD + "spec: " + "[" * 50_000, "TooComplex", ":3:"),
    "yaml uwsgi deep": ("x.yaml", "uwsgi: " + "[" * 50_000, "TooComplex", ":1:"),
    "yaml duplicate key": ("x.yaml", HEAD + "kind: Vassal\n" + SLEEP, "DuplicateKey", ":3:"),
    "yaml unknown field": ("x.yaml", HEAD + "spec:\n  command: [a]\n  workDir: /\n", "UnknownField", "`workingDir`"),
    "yaml boolean for a string": ("x.yaml", HEAD + "spec:\n  command: [echo, true]\n", "InvalidValue", ":4:"),
    "yaml command as a string": ("x.yaml", HEAD + "spec: {command: sleep 1}\n", "InvalidValue", "write a list"),
    "yaml bad name": ("x.yaml", HEAD + "metadata: {name: ../../etc}\n" + SLEEP, "InvalidName", ":3:"),
    "yaml unknown kind": ("x.yaml", "apiVersion: emperor/v1\nkind: Pod\n" + SLEEP, "UnknownKind", ":2:"),
    "yaml unknown version": (
        "x.yaml",
        "kind: Vassal\napiVersion: emperor/v9\n" + SLEEP,
        "UnknownApiVersion",
        "emperor/v1",
    ),
    "yaml uid out of range": ("x.yaml", HEAD + "spec: {command: [a], user: 4294967295}\n", "InvalidValue", ":3:"),
    "yaml negative uid": ("x.yaml", HEAD + "spec: {command: [a], user: -1}\n", "InvalidValue", ":3:"),
    "yaml endless grace": (
        "x.yaml",
        HEAD + "spec: {command: [a], stop: {gracePeriod: 5 parsecs}}\n",
        "InvalidValue",
        ":3:",
    ),
    "yaml two documents without names": ("x.yaml", f"{HEAD}{SLEEP}---\n{HEAD}{SLEEP}", "NoName", "metadata.name"),
    "json malformed": ("x.json", f'{{{J_HEAD},\n "spec": }}', "InvalidSyntax", ":2:"),
    "js malformed": ("x.js", '{"uwsgi":\n {"a": }}', "InvalidSyntax", ":2:"),
    "json empty": ("x.json", "", "Empty", "remove the file"),
    "json not UTF-8": ("x.json", b'{"uwsgi":\n {"a": "\xff"}}', "NotUtf8", ":2:"),
    "json of 10 MiB": ("x.json", '{"uwsgi": {"a": "' + "b" * 10 * MiB + '"}}', "TooLarge", "expected at most"),
    "json deep": ("x.json", f'{{{J_HEAD}, "spec": ' + "[" * 100_000, "TooComplex", ""),
    "json uwsgi deep": ("x.js", '{"uwsgi": ' + "[" * 100_000, "TooComplex", ""),
    "json duplicate key": ("x.json", f'{{{J_HEAD},\n "kind": "Vassal", "spec": {{}}}}', "DuplicateKey", ":2:"),
    "json NaN": ("x.json", f'{{{J_HEAD}, "spec": {{"nice": NaN}}}}', "InvalidNumber", ""),
    "json huge number": ("x.json", f'{{{J_HEAD}, "spec": {{"nice": {"9" * 5000}}}}}', "InvalidNumber", ""),
    "json lone surrogate": ("x.json", f'{{{J_HEAD}, "spec": {{"command": ["\\ud800"]}}}}', "NotUtf8", ""),
    "toml malformed": ("x.toml", 'kind = "Vassal"\nspec = \n', "InvalidSyntax", ":2:"),
    "toml empty": ("x.toml", "# only this\n", "Empty", "remove the file"),
    "toml not UTF-8": ("x.toml", b'kind = "Vassal"\n# \xc3\x28\n', "NotUtf8", ":2:"),
    "toml of 10 MiB": ("x.toml", "# comment\n" * MiB, "TooLarge", "expected at most"),
    "toml key bomb": ("x.toml", ".".join(["a"] * 20_000) + " = 1\n", "TooComplex", ""),
    "toml duplicate key": ("x.toml", 'kind = "Vassal"\nkind = "Vassal"\n', "InvalidSyntax", ":2:"),
    "program bytes": ("x.ini", b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 8, "NotUtf8", ":2:"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_refused_with_its_place_and_a_remedy(reign: Reign, owner: int | None, case: str) -> None:
    name, data, reason, words = FILES[case]
    path = reign.put(name, data, owner)
    try:
        reign.unharmed()  # while it is being parsed
        message = reign.refusal(name, reason)
        rest = message.partition(f"/{name}")[2]
        assert words in rest, message
        assert "(" in rest or "expected" in rest, f"no remedy: {message}"
        assert len(message) < 1000
        found = reign.of_file(name)
        assert found is not None and found["status"]["phase"] == "Invalid" and not found["status"]["processes"]
    finally:
        path.unlink()
    reign.gone(name)
    reign.unharmed()


# What is not a file at all: made at a path, with the reason and words of the message.
def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the whole path may be too long for a socket
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero: endless


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"[uwsgi]\n")
        file.truncate(1 << 34)  # sparse


ENTRIES: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "directory": ("x.ini", Path.mkdir, "NotRegular", "is a directory"),
    "fifo": ("x.yaml", fifo, "NotRegular", "is a FIFO"),
    "socket": ("x.json", unix_socket, "NotRegular", "is a socket"),
    "device": ("x.yaml", device, "NotRegular", "is a character device"),
    "sparse": ("x.ini", huge, "TooLarge", "expected at most"),
    "dangling link": ("x.ini", lambda path: path.symlink_to("nowhere"), "DanglingLink", "nowhere"),
    "link to itself": ("x.ini", lambda path: path.symlink_to(path.name), "LinkLoop", "leads back to itself"),
    "link to a device": ("x.toml", lambda path: path.symlink_to("/dev/zero"), "NotRegular", "character device"),
    "link to a directory": ("x.xml", lambda path: path.symlink_to("/"), "NotRegular", "is a directory"),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_what_is_no_file_is_refused_and_never_waited_for(reign: Reign, case: str) -> None:
    name, make, reason, words = ENTRIES[case]
    path = reign.emperor.vassals / name
    make(path)
    try:
        message = reign.refusal(name, reason)
        assert words in message and "(" in message
        reign.unharmed()
    finally:
        path.rmdir() if case == "directory" else path.unlink()
    reign.gone(name)


NAMES: dict[str, tuple[bytes, str, str]] = {
    "newline": (b"a\nb.ini", "a\\x0ab.ini", "control"),
    "escape codes": (b"\x1b[31mred\x1b]0;owned\x07.ini", "\\x1b[31mred\\x1b]0;owned\\x07.ini", "control"),
    "leading dash": (b"-c.ini", "-c.ini", "dash"),
    "255 bytes": (b"n" * 251 + b".ini", "n" * 251 + ".ini", "254 bytes"),
    "not UTF-8": (b"caf\xff\xfe.ini", "caf\\xff\\xfe.ini", "undecodable"),
    "right-to-left override": ("a\u202efni.ini".encode(), "a\\u202efni.ini", "control"),
    "tab in a manifest": (b"a\tb.yaml", "a\\x09b.yaml", "control"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_hostile_name_is_refused_and_shown_without_harm(reign: Reign, owner: int | None, case: str) -> None:
    name, shown, words = NAMES[case]
    path = reign.put(name, "[uwsgi]\n", owner)
    try:
        message = reign.refusal(shown, "InvalidName")
        assert words in message and "(rename the file)" in message
        for output in ("", "wide", "name"):
            listed = reign.emperor.cli("get", "vassals", *([f"-o{output}"] if output else []))
            assert listed.returncode == 0 and shown in listed.stdout
            assert set(listed.stdout) & set(map(chr, range(32))) <= {"\n"}
        assert "\x1b" not in reign.emperor.log() and shown in reign.emperor.log()
        reign.unharmed()
    finally:
        path.unlink()
    reign.gone(shown)


@pytest.mark.parametrize(
    "name", ["two words.ini", "a\\..\\..evil.ini", "%2e%2e%2fx.ini", "\U0001f451.ini", "caf\u00e9.ini"]
)
def test_an_odd_name_is_just_a_name(reign: Reign, owner: int | None, name: str) -> None:
    path = reign.put(name, "[uwsgi]\n", owner)
    try:
        reign.emperor.wait_running(name)
        described = reign.emperor.cli("describe", "vassal", name)
        assert described.returncode == 0 and name in described.stdout, described
    finally:
        path.unlink()
    reign.gone(name)


@pytest.mark.parametrize(
    "name", [".x.ini", "..\\..\\x.ini", "x.ini~", ".x.ini.swp", "#x.ini#", "x.ini.bak", "x.rpmnew", "4913", "x"]
)
def test_leftovers_of_editors_never_become_vassals(reign: Reign, name: str) -> None:
    alone = {"bystander"}
    reign.emperor.wait_for(lambda: set(reign.emperor.objects()) == alone, what="what other tests left is forgotten")
    path = reign.put(name, "[uwsgi]\n", None)
    try:
        reign.unharmed()  # a later event of the same directory has been dealt with
        assert set(reign.emperor.objects()) == alone
    finally:
        path.unlink()


def test_a_file_without_read_permission(emperor: Callable[..., Emperor]) -> None:
    """As an ordinary user, who may not read everything."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything; the test below covers it")
    one = emperor().start()
    forbid_and_mend(one)


@pytest.mark.as_user
@pytest.mark.as_root
def test_a_file_without_read_permission_for_a_user(emperor: Callable[..., Emperor]) -> None:
    forbid_and_mend(emperor().start())


def forbid_and_mend(one: Emperor) -> None:
    path = one.manifest("x", ["sleep", "1000"])
    pid = one.wait_running("x")
    path.chmod(0)
    one.write("y.yaml", HEAD + SLEEP).chmod(0)
    told = one.wait_condition("y", "Accepted", "False", "PermissionDenied") if one.get("y") else None
    told = told or one.wait_condition("y.yaml", "Accepted", "False", "PermissionDenied")
    assert f"user id {one.user or os.geteuid()}" in told["message"] and "read permission" in told["message"]
    os.utime(path)
    one.wait_condition("x", "Accepted", "False", "PermissionDenied")
    assert one.main_pid("x") == pid and one.phase("x") == "Running"
    path.chmod(0o644)
    one.wait_condition("x", "Accepted", "True")


# Launches that can't succeed: the spec, the reason, words of the message.
def script(text: str, mode: int = 0o755) -> Callable[[Path], str]:
    def write(directory: Path) -> str:
        path = directory / "program"
        path.write_bytes(text.encode())
        path.chmod(mode)
        return str(path)

    return write


LAUNCHES: dict[str, tuple[dict[str, Any], Callable[[Path], str] | None, str, str]] = {
    "unknown user": ({"user": "no-such-user"}, None, "UnknownUser", "no-such-user"),
    "unknown group": ({"group": "no-such-group"}, None, "UnknownGroup", "no-such-group"),
    "missing binary": ({"command": ["/nowhere/at/all"]}, None, "MissingProgram", "/nowhere/at/all"),
    "missing in PATH": ({"command": ["no-such-program"]}, None, "MissingProgram", "in PATH"),
    "not executable": ({}, script("#!/bin/sh\n", 0o644), "NotExecutable", "chmod +x"),
    "a directory": ({"command": ["/etc"]}, None, "IsDirectory", "/etc"),
    "missing interpreter": ({}, script("#!/no/such/interpreter\n"), "MissingInterpreter", "/no/such/interpreter"),
    "carriage returns": ({}, script("#!/bin/sh\r\nexit\r\n"), "MissingInterpreter", "Unix line ends"),
    "no shebang": ({}, script("sleep 1\n"), "NotAProgram", "#!/bin/sh"),
    "working directory": ({"workingDir": "/no/such/place"}, None, "MissingDirectory", "/no/such/place"),
    "working directory a file": ({"workingDir": "/etc/passwd"}, None, "MissingDirectory", "not a directory"),
}


@pytest.mark.parametrize("case", LAUNCHES)
def test_a_launch_that_fails_says_why_and_recovers_when_mended(reign: Reign, tmp_path: Path, case: str) -> None:
    spec, make, reason, words = LAUNCHES[case]
    tmp_path.chmod(0o755)
    command = [make(tmp_path)] if make else spec.get("command", ["sleep", "1000"])
    path = reign.emperor.manifest("x", command, **{k: v for k, v in spec.items() if k != "command"})
    try:
        found = reign.emperor.wait_for(
            lambda: (seen := reign.emperor.get("x")) and seen["status"]["lastExit"] and seen, what="x could not start"
        )
        assert found["status"]["lastExit"]["reason"] == reason, found["status"]["lastExit"]
        ready = reign.emperor.condition("x", "Ready")
        assert ready["status"] == "False" and words in ready["message"] and "(" in ready["message"]
        assert any(event["reason"] == reason and words in event["message"] for event in reign.emperor.events("x"))
        reign.unharmed()
        reign.emperor.manifest("x", ["sleep", "1000"])
        reign.emperor.wait_running("x", timeout=2.0)  # the edit overrules the blacklist
    finally:
        path.unlink()
    reign.gone("x.yaml")


@pytest.mark.as_root
def test_a_missing_program_is_missing_also_where_the_user_may_not_search(reign: Reign, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    path = reign.emperor.manifest("x", ["no-such-program"], user="nobody", env={"PATH": f"{closed}:/usr/bin"})
    try:
        found = reign.emperor.wait_for(lambda: reign.emperor.get("x") and reign.emperor.condition("x", "Ready"))
        reign.emperor.wait_for(lambda: "MissingProgram" in str(reign.emperor.events("x")), what="it is missing")
        assert found
    finally:
        path.unlink()
    reign.gone("x.yaml")


GOOD: dict[str, tuple[str, str, str]] = {
    # file, content, another content
    "ini": ("g.ini", "[uwsgi]\na = 1\n", "[uwsgi]\na = 2\n"),
    "xml": ("g.xml", "<uwsgi><a>1</a></uwsgi>", "<uwsgi><a>2</a></uwsgi>"),
    "yaml": ("g.yaml", "uwsgi:\n  a: 1\n", "uwsgi:\n  a: 2\n"),
    "yml": ("g.yml", "uwsgi:\n  a: 1\n", "uwsgi:\n  a: 2\n"),
    "json": ("g.json", '{"uwsgi": {"a": 1}}', '{"uwsgi": {"a": 2}}'),
    "js": ("g.js", '{"uwsgi": {"a": 1}}', '{"uwsgi": {"a": 2}}'),
    "manifest": ("g.yaml", HEAD + SLEEP, HEAD + "spec: {command: [sleep, '2000']}\n"),
    "json manifest": (
        "g.json",
        f'{{{J_HEAD}, "spec": {{"command": ["sleep", "1000"]}}}}',
        f'{{{J_HEAD}, "spec": {{"command": ["sleep", "2000"]}}}}',
    ),
    "toml manifest": (
        "g.toml",
        'apiVersion = "emperor/v1"\nkind = "Vassal"\n[spec]\ncommand = ["sleep", "1000"]\n',
        'apiVersion = "emperor/v1"\nkind = "Vassal"\n[spec]\ncommand = ["sleep", "2000"]\n',
    ),
}
SPOILED: dict[str, bytes] = {
    "half a file": b"",  # the first half of the good one
    "not UTF-8": b"# \xff\xfe\n",
    "empty": b"",
    "10 MiB": b"# comment\n" * MiB,
}


@pytest.mark.parametrize("spoiled", [*SPOILED, "a dangling link", "a directory"])
@pytest.mark.parametrize("form", GOOD)
def test_the_last_good_generation_runs_on_and_mending_recovers(
    reign: Reign, owner: int | None, form: str, spoiled: str
) -> None:
    name, good, better = GOOD[form]
    path = reign.put(name, good, owner)
    vassal = reign.emperor.wait_for(lambda: reign.of_file(name), what="it is known")["metadata"]["name"]
    pid = reign.emperor.wait_running(vassal)
    try:
        if spoiled == "a dangling link":
            draft = reign.emperor.root / "link"
            draft.symlink_to("nowhere")
            draft.rename(path)
        elif spoiled == "a directory":
            path.unlink()
            path.mkdir()
        else:
            half = good.encode()[: len(good) // 3]
            reign.put(name, half if spoiled == "half a file" else SPOILED[spoiled], owner)
        if spoiled != "a directory":  # an entry may be seen gone in between: that is a removal
            told = reign.emperor.wait_condition(vassal, "Accepted", "False")
            assert "generation 1, the last good one, stays" in told["message"] and f"/{name}" in told["message"]
            assert reign.emperor.main_pid(vassal) == pid and reign.emperor.phase(vassal) == "Running"
            reign.unharmed()
            assert alive(pid)
        else:
            reign.refusal(name, "NotRegular")
            path.rmdir()
        reign.put(name, better, owner)
        reign.emperor.wait_condition(vassal, "Accepted", "True")
        if spoiled != "a directory":
            reign.emperor.wait_for(
                lambda: (seen := reign.emperor.get(vassal)) and seen["status"]["observedGeneration"] == 2
            )
        reign.emperor.wait_running(vassal)
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        if path.is_dir():
            shutil.rmtree(path)
    reign.gone(name)


def test_two_files_that_claim_one_name(reign: Reign, owner: int | None) -> None:
    text = HEAD + "metadata: {name: shared}\n" + SLEEP
    first = reign.put("first.yaml", text, owner)
    pid = reign.emperor.wait_running("shared")
    second = reign.put("second.json", json.dumps({"apiVersion": "emperor/v1", "kind": "Vassal"}), owner)
    try:
        reign.refusal("second.json", "MissingField")
        reign.put(
            "second.json",
            f'{{{J_HEAD}, "metadata": {{"name": "shared"}}, "spec": {{"command": ["sleep", "9"]}}}}',
            owner,
        )
        conflict = reign.emperor.wait_condition("shared", "Conflict", "True", "Conflict")
        assert "second.json" in conflict["message"] and "rename one of them" in conflict["message"]
        told = [each for each in reign.emperor.events("shared") if each["reason"] == "Conflict"]
        assert told and "second.json" in told[-1]["message"] and "first.yaml" in told[-1]["message"]
        assert reign.emperor.main_pid("shared") == pid
        reign.unharmed()
        os.utime(second)  # a touch of the one that does not count changes nothing
        reign.unharmed()
        assert reign.emperor.main_pid("shared") == pid
        first.unlink()
        reign.emperor.wait_running("shared", other_than=pid)
        assert not reign.emperor.condition("shared", "Conflict")
    finally:
        first.unlink(missing_ok=True)
        second.unlink()
    reign.emperor.wait_absent("shared")


def test_many_bombs_at_once_delay_nobody(reign: Reign, owner: int | None) -> None:
    bombs = [reign.put(f"deep{number}.toml", FILES["toml key bomb"][1], owner) for number in range(4)]
    bombs += [reign.put(f"wide{number}.yaml", FILES["yaml merge keys"][1], owner) for number in range(4)]
    try:
        reign.unharmed()
        fresh = reign.put("fresh.yaml", HEAD + SLEEP, None)
        bombs.append(fresh)
        reign.emperor.wait_running("fresh", timeout=2.0)
        for bomb in bombs[:-1]:
            reign.refusal(bomb.name, "TooComplex")
            reign.unharmed()
    finally:
        for bomb in bombs:
            bomb.unlink()
    for bomb in bombs:
        reign.gone(bomb.name)
