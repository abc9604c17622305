"""One file for many vassals: skeletons that links lead to, and configuration that is passed to all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from e2e.harness import Emperor, alive
from e2e.test_uwsgi import ini, settings, wait_greeting, wrapper

Make = Callable[..., Emperor]
MANIFEST = """
apiVersion: emperor/v1
kind: Vassal
spec:
  command: [sleep, "1000"]
  env: {{WORD: "{0}-%n"}}
"""


def touch_link(path: Path) -> None:
    """As the manual says it."""
    subprocess.run(["touch", "--no-dereference", str(path)], check=True)


def link(e: Emperor, *names: str) -> None:
    """Links to the skeleton."""
    for name in names:
        (e.vassals / name).symlink_to("app.skel")


def heard(noted: list[dict[str, object]], pid: int) -> list[object]:
    """The bytes that one process has heard."""
    return [one["byte"] for one in noted if one["pid"] == pid and "byte" in one]


Skeleton = tuple[Emperor, Callable[[], list[dict[str, object]]], int, int]


@pytest.fixture
def skeleton(emperor: Make, request: pytest.FixtureRequest) -> Iterator[Skeleton]:
    """The manual's example: an Emperor (with these options), what its vassals noted, the pids of app1 and app2."""
    e = emperor(*getattr(request, "param", ()))
    path, noted = wrapper(e)
    e.options += ["--emperor-wrapper", str(path)]
    e.write("app.skel", "[uwsgi]\nmaster = true\n")
    link(e, "app1.ini", "app2.ini")
    e.start()
    pids = e.wait_running("app1.ini"), e.wait_running("app2.ini")
    for name in ("app1.ini", "app2.ini"):
        e.wait_condition(name, "Ready", "True")
    assert set(e.objects()) == {"app1.ini", "app2.ini"}
    yield e, noted, *pids


nofollow = pytest.mark.parametrize("skeleton", [["--emperor-nofollow"]], indirect=True)


@nofollow
def test_a_touched_link_reloads_its_own_vassal(skeleton: Skeleton) -> None:
    e, noted, one, two = skeleton
    os.utime(e.vassals / "app.skel")
    e.write("app.skel", "[uwsgi]\nmaster = true\nprocesses = 2\n")
    touch_link(e.vassals / "app1.ini")
    e.wait_for(lambda: heard(noted(), one) == [1])
    # app2 hears nothing until its own turn comes, whatever was done to the skeleton.
    touch_link(e.vassals / "app2.ini")
    e.wait_for(lambda: heard(noted(), two) == [1])
    assert heard(noted(), one) == [1]


def test_a_touched_skeleton_reloads_all(skeleton: Skeleton) -> None:
    e, noted, one, two = skeleton
    os.utime(e.vassals / "app.skel")
    e.wait_for(lambda: heard(noted(), one) == heard(noted(), two) == [1])
    e.write("app.skel", "[uwsgi]\nmaster = true\nprocesses = 2\n")
    e.wait_for(lambda: heard(noted(), one) == heard(noted(), two) == [1, 1])


@nofollow
def test_a_skeleton_that_goes_takes_nothing_down(skeleton: Skeleton) -> None:
    e, _, one, two = skeleton
    (e.vassals / "app.skel").unlink()
    e.wait_condition("app1.ini", "Accepted", "False", "DanglingLink")
    assert alive(one)
    assert alive(two)
    e.write("app.skel", "[uwsgi]\nmaster = true\nprocesses = 3\n")
    e.wait_condition("app1.ini", "Accepted", "True")
    assert alive(one)


def test_real_sites_of_one_skeleton(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor("--emperor-nofollow")
    sockets = {"http-socket": f"{e.root}/%n.http"}
    e.write("app.skel", ini(settings(e, free_port) | sockets | {"env": "GREETING=%n"}))
    link(e, "app1.ini", "app2.ini")
    e.start()
    for name in ("app1.ini", "app2.ini"):
        e.wait_condition(name, "Ready", "True", "Accepting")
    assert (e.root / "app1.http").is_socket()
    assert (e.root / "app2.http").is_socket()


@pytest.mark.parametrize("options", [[], ["--emperor-nofollow"]])
def test_native_skeletons(emperor: Make, options: list[str]) -> None:
    e = emperor(*options)
    e.write("app.skel", MANIFEST.format("first"))
    link(e, "app1.yaml", "app2.yaml")
    e.start()
    one, two = e.wait_running("app1"), e.wait_running("app2")
    assert psutil.Process(one).environ()["WORD"] == "first-app1"
    assert psutil.Process(two).environ()["WORD"] == "first-app2"
    e.write("app.skel", MANIFEST.format("second"))
    if options:
        touch_link(e.vassals / "app1.yaml")
    one = e.wait_running("app1", other_than=one)
    assert psutil.Process(one).environ()["WORD"] == "second-app1"
    if options:
        assert e.main_pid("app2") == two
        touch_link(e.vassals / "app2.yaml")
    e.wait_running("app2", other_than=two)


# --- configuration that is passed to all ---


def test_what_is_passed_to_all(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor(env={"UWSGI_VASSAL_PROCNAME_PREFIX": "mine-"})
    (e.root / "common.ini").write_text("[uwsgi]\nenv = GREETING=common\n")
    e.options += ["--vassals-include", "../common.ini", "--vassal-set", "auto-procname=true"]
    e.write("a.ini", ini(settings(e, free_port, "own")))
    e.start()
    wait_greeting(e, free_port, "common")
    pid = e.main_pid("a.ini")
    assert pid
    # Both the variable of the Emperor and what was set for all are options of the vassal.
    e.wait_for(lambda: psutil.Process(pid).cmdline() == ["mine-uWSGI", "master"], what="the master's name")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a.ini": "[uwsgi]\nini = a.ini\n"}, "a.ini -> {0}/a.ini"),
        ({"a.ini": "[uwsgi]\ninclude = b.ini\n", "b.ini": "[uwsgi]\ninherit = %d/a.ini\n"}, "b.ini -> {0}/a.ini"),
        ({"a.ini": "[uwsgi]\nxml = b.xml:s\n", "b.xml": "<uwsgi><ini>a.ini</ini></uwsgi>"}, ""),
        ({"a.ini": "[uwsgi]\nini = :b\n[b]\nini = :c\n[c]\nini = :b\n"}, "a.ini:b -> {0}/a.ini:c -> {0}/a.ini:b"),
        ({"a.ini": "[uwsgi]\nini = b.ini\nini = b.ini\n", "b.ini": "[uwsgi]\nx = 1\n"}, ""),
        ({}, ""),
    ],
)
def test_passed_files_that_include_each_other(emperor: Make, files: dict[str, str], told: str) -> None:
    e = emperor("--vassals-include", "a.ini")
    for name, text in files.items():
        (e.vassals / name).write_text(text)
    e.start(ready=not told)
    if told:
        assert e.wait() == 1
        assert told.format(e.vassals) in e.log()
        assert "without end" in e.log()


@pytest.mark.parametrize("value", ["novalue", "=x"])
def test_a_set_that_is_none(emperor: Make, value: str) -> None:
    e = emperor("--vassal-set", value).start(ready=False)
    assert e.wait() == 1
    assert "expected KEY=VALUE" in e.log()


def test_a_circle_through_other_files_is_uwsgis_to_tell(emperor: Make, uwsgi_bin: Path) -> None:
    e = emperor("--uwsgi-logs", "capture").start()
    (e.root / "b.ini").write_text("[uwsgi]\ninclude = vassals/a.ini\n".replace("vassals/", f"{e.vassals}/"))
    e.write("a.ini", f"[uwsgi]\ninclude = {e.root}/b.ini\n")
    e.write("self.ini", "[uwsgi]\ninclude = self.ini\n")
    e.wait_condition("self.ini", "Accepted", "False", "IncludeCycle")
    e.wait_condition("a.ini", "Ready", "False", "Blacklisted", timeout=60)
    shown = e.cli("get", "blacklist", "a.ini", "-o", "yaml").stdout
    assert "getting INI configuration" in shown, shown


def test_an_include_that_may_not_be_read_is_uwsgis_to_tell(emperor: Make, uwsgi_bin: Path) -> None:
    e = emperor("--uwsgi-logs", "capture")
    secret = e.root / "secret.ini"
    secret.write_text("[uwsgi]\nsocket = :0\n")
    secret.chmod(0)
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, since root may read everything")
        os.chown(secret, 65534, 65534)
        drop = "--bounding-set=-dac_override,-dac_read_search --inh-caps=-dac_override,-dac_read_search"
        wrapped = e.root / "humble"
        wrapped.write_text(f'#!/bin/sh\nexec setpriv {drop} "{uwsgi_bin}" "$@"\n')
        wrapped.chmod(0o755)
        e.options += ["--emperor-wrapper", str(wrapped)]
    e.options += ["--vassals-include", str(secret)]
    e.write("a.ini", "[uwsgi]\nsocket = :0\n")
    e.start()
    e.wait_condition("a.ini", "Ready", "False", "Blacklisted")
    shown = e.cli("get", "blacklist", "a.ini", "-o", "yaml").stdout
    assert "Permission denied" in shown, shown


# --- the working directory of a source ---


def test_the_working_directory_of_a_source(emperor: Make, uwsgi_bin: Path) -> None:
    e = emperor()
    sites = e.root / "sites" / "one"
    sites.mkdir(parents=True)
    there = e.root / "there"
    there.mkdir()
    e.sources = [f"glob,cwd={there}://sites/*/*", f"dir,cwd={there}://{e.vassals}"]
    path, noted = wrapper(e)
    e.options += ["--emperor-wrapper", str(path)]
    e.write(sites / "u.ini", "[uwsgi]\nmaster = true\n")
    e.write(sites / "n.yaml", MANIFEST.format("n"))
    e.write("d.ini", "[uwsgi]\nmaster = true\n")
    e.start()
    e.wait_running("sites/one/u.ini")
    e.wait_running("d.ini")
    e.wait_for(lambda: len(noted()) == 2)
    assert {str(one["cwd"]) for one in noted()} == {str(there)}
    assert {str(one["argv"][-1]) for one in noted()} == {f"{sites}/u.ini", f"{e.vassals}/d.ini"}  # type: ignore[index]
    assert psutil.Process(e.wait_running("n")).cwd() == str(there)
    wide = e.cli("get", "monitors", "-o", "wide").stdout
    assert "WORKING DIR" in wide
    assert wide.count(str(there)) == 2


def test_without_one_it_is_the_directory_or_the_emperors_own(emperor: Make) -> None:
    e = emperor()
    e.sources = ["vassals", "sites/*/*.ini"]
    e.start()
    wide = e.cli("get", "monitors", "-o", "json").stdout
    assert f'"workingDir": "{e.vassals}"' in wide
    assert f'"workingDir": "{e.root}"' in wide
