"""The file of --vassal-defaults: accepted, refused, watched; and what a change of it makes the monitors publish."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from emperorctl.models.errors import ConfigError
from emperorctl.models.merging import Layers
from emperorctl.models.status import Note
from emperorctl.models.vassal import Vassal
from emperorctl.monitors.base import Shared
from emperorctl.monitors.defaults import Defaults, DefaultsWatch, given_layers
from emperorctl.monitors.watch.choice import WatchMode
from tests.monitors.recorder import LIMIT, Recorder, replace, watching, write

HEAD = "apiVersion: emperor/v1\nkind: Vassal\n"
MANIFEST = HEAD + "spec:\n  command: [sleep]\n"


def test_it_is_read_with_what_was_set_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "/srv")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "t", "token\n")
    write(tmp_path / "d.yaml", HEAD + 'spec: {env: {A: "@(t)", B: "$(WHERE)/%n"}}\n')
    given = given_layers(("spec.env.C=@(t)$(WHERE)",))
    layers = Defaults(str(tmp_path / "d.yaml"), given).load()
    assert layers.defaults == {"spec": {"env": {"A": "token", "B": "/srv/%n"}}}
    assert layers.given == {"spec": {"env": {"C": "token/srv"}}}
    assert layers.file == str(tmp_path / "d.yaml") and layers.lines["spec", "env", "A"] == 3
    assert not given_layers(())


def test_json_and_toml_are_manifests_too(tmp_path: Path) -> None:
    write(tmp_path / "d.json", '{"apiVersion": "emperor/v1", "kind": "Vassal", "spec": {"nice": 1}}')
    write(tmp_path / "d.toml", 'apiVersion = "emperor/v1"\nkind = "Vassal"\n[spec]\nnice = 1\n')
    for name in ("d.json", "d.toml"):
        assert Defaults(str(tmp_path / name)).load().defaults == {"spec": {"nice": 1}}


def test_what_can_not_be_used_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    write(tmp_path / "d.ini", HEAD)
    write(tmp_path / "open.yaml", HEAD)
    (tmp_path / "open.yaml").chmod(0o666)
    write(tmp_path / "env.yaml", HEAD + 'spec:\n  env:\n    A: "$(NO_SUCH_VARIABLE)"\n')
    for name, reason, line in [
        ("missing.yaml", "NotFound", None),
        ("fifo.yaml", "NotRegular", None),
        ("d.ini", "InvalidName", None),
        ("open.yaml", "PermissionDenied", None),
        ("env.yaml", "UnknownVariable", 5),
    ]:
        with pytest.raises(ConfigError) as caught:
            Defaults(str(tmp_path / name)).load()
        problem = caught.value.problem
        assert (problem.reason, problem.file, problem.line) == (reason, str(tmp_path / name), line)


@pytest.mark.parametrize("mode", ["inotify", "poll"])
def test_every_change_is_noticed_and_only_good_ones_count(tmp_path: Path, mode: WatchMode) -> None:
    file = tmp_path / "d.yaml"
    write(file, HEAD + "spec: {nice: 1}\n")
    adopted: list[Layers] = []
    notes: list[Note] = []

    async def story() -> None:
        news = asyncio.Event()

        async def until(count: int, warned: int) -> None:
            async with asyncio.timeout(LIMIT):
                while (len(adopted), len(notes)) != (count, warned):
                    news.clear()
                    await news.wait()

        def adopt(layers: Layers) -> None:
            adopted.append(layers)
            news.set()

        def warn(source: str, note: Note) -> None:
            assert source == f"file://{file}"
            notes.append(note)
            news.set()

        watch = DefaultsWatch(Defaults(str(file)), adopt, warn)
        assert watch.begin().defaults == {"spec": {"nice": 1}}
        watch.watch(Shared(), mode, 0.01)
        try:
            replace(file, HEAD + "spec: {nice: 2}\n")
            await until(1, 1)
            assert adopted[-1].defaults == {"spec": {"nice": 2}} and notes[-1].reason == "DefaultsRead"
            replace(file, HEAD + "spec: {nice: 99}\n")
            await until(1, 2)
            assert notes[-1].reason == "InvalidValue" and "the last good defaults stay" in notes[-1].message
            assert f"{file}:3" in notes[-1].message
            file.unlink()
            await until(1, 3)
            assert notes[-1].reason == "NotFound"
            write(file, HEAD + "spec: {nice: 2}\n")
            await until(1, 4)
            assert notes[-1].reason == "DefaultsRead"
            write(tmp_path / "real.yaml", HEAD + "spec: {nice: 3}\n")
            os.symlink("real.yaml", tmp_path / "link")
            os.rename(tmp_path / "link", file)
            await until(2, 5)
            write(tmp_path / "real.yaml", HEAD + "spec: {nice: 4}\n")
            await until(3, 6)
            assert adopted[-1].defaults == {"spec": {"nice": 4}}
        finally:
            watch.close()

    asyncio.run(story())


def vassal(recorder: Recorder, name: str) -> Vassal:
    report = recorder.get(name)
    assert report is not None and report.claims[0].vassal is not None
    return report.claims[0].vassal


@pytest.mark.parametrize("stranger", [False, True])
def test_monitors_look_at_every_manifest_again_and_publish_what_differs(tmp_path: Path, stranger: bool) -> None:
    write(tmp_path / "a.yaml", MANIFEST)
    write(tmp_path / "b.yaml", MANIFEST + "  nice: 3\n")
    write(tmp_path / "c.ini")
    if stranger:  # parsed in the worker
        for name in ("a.yaml", "b.yaml"):
            (tmp_path / name).chmod(0o666)

    async def story() -> None:
        first = Layers({"spec": {"nice": 1}}, file="/d.yaml", lines={("spec", "nice"): 3})
        async with watching(tmp_path, layers=first) as recorder:
            await recorder.until(lambda: recorder.get("a.yaml") and recorder.get("b.yaml"))
            assert (vassal(recorder, "a.yaml").launch.nice, vassal(recorder, "b.yaml").launch.nice) == (1, 3)
            recorder.forget()
            await recorder.monitor.adopt(Layers({"spec": {"nice": 2}}, file="/d.yaml", lines={("spec", "nice"): 3}))
            await recorder.until(lambda: vassal(recorder, "a.yaml").launch.nice == 2)
            assert len(recorder.said("a.yaml")) == 1
            assert recorder.said("b.yaml") == [] and recorder.said("c.ini") == []
            # Another line alone is worth knowing, and changes no vassal.
            before = vassal(recorder, "a.yaml")
            await recorder.monitor.adopt(Layers({"spec": {"nice": 2}}, file="/d.yaml", lines={("spec", "nice"): 9}))
            await recorder.until(lambda: dict(vassal(recorder, "a.yaml").origins)["spec.nice"] == "/d.yaml:9")
            assert vassal(recorder, "a.yaml") == before

    asyncio.run(story())
