"""Arguments, environment and files become one Settings, and every mistake in them says where it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from emperorctl.cli.loading import Arguments, Loaded, load
from emperorctl.models.errors import UserError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def loaded(*words: str, env: dict[str, str] | None = None, **options: Any) -> Loaded:
    return load(Arguments(words, options=options), env or {})


def refused(*words: str, env: dict[str, str] | None = None, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        loaded(*words, env=env, **options)
    return str(caught.value)


def test_nothing_given_is_all_defaults() -> None:
    found = loaded()
    assert found.settings.emperor == () and found.origins == {} and found.warnings == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.ini", "[uwsgi]\nemperor = /etc/vassals\nemperor-throttle = 250\nemperor_no_blacklist\n"),
        (
            "e.xml",
            "<uwsgi>\n<emperor>/etc/vassals</emperor>\n<emperor-throttle>250</emperor-throttle>\n<emperor-no-blacklist/>\n"
            "</uwsgi>\n",
        ),
        ("e.yml", "uwsgi:\n  emperor: /etc/vassals\n  emperor-throttle: 250\n  emperor-no-blacklist: true\n"),
        (
            "e.json",
            '{"uwsgi": {\n"emperor": "/etc/vassals",\n"emperor-throttle": 250,\n"emperor-no-blacklist": true}}\n',
        ),
        (
            "e.yaml",
            "kind: Emperor\napiVersion: emperor/v1\nspec:\n  emperor: /etc/vassals\n  emperorThrottle: 250ms\n"
            "  emperorNoBlacklist: true\n",
        ),
        (
            "e.toml",
            'kind = "Emperor"\napiVersion = "emperor/v1"\n[spec]\nemperor = ["/etc/vassals"]\n'
            'emperorThrottle = "250ms"\nemperorNoBlacklist = true\n',
        ),
        (
            "n.json",
            json.dumps(
                {
                    "kind": "Emperor",
                    "apiVersion": "emperor/v1",
                    "spec": {"emperor": "/etc/vassals", "emperorThrottle": "250ms", "emperorNoBlacklist": True},
                },
                indent=0,
            ),
        ),
    ],
)
def test_every_form_of_file_says_the_same(name: str, text: str) -> None:
    found = loaded(write(name, text))
    told = found.settings
    assert (told.emperor, told.emperor_throttle, told.emperor_no_blacklist) == (("/etc/vassals",), 250, True)
    line = next(number for number, text in enumerate(text.splitlines(), 1) if "hrottle" in text)
    assert found.origins["emperor_throttle"] == f"{name}:{line}"
    assert found.warnings == ()


def test_arguments_come_before_the_environment_before_files_before_defaults() -> None:
    file = write(
        "e.ini", "[uwsgi]\nemperor=/f\nreload-mercy=1\nemperor-freq=2\nemperor-throttle=3\nemperor-broodlord=4\n"
    )
    env = {"EMPERORCTL_RELOAD_MERCY": "10", "EMPERORCTL_EMPEROR_FREQ": "20", "EMPERORCTL_EMPEROR": "/env"}
    found = loaded(file, env=env, reload_mercy="100")
    told = found.settings
    assert (told.reload_mercy, told.emperor_freq, told.emperor_throttle) == (100, 20, 3)
    assert told.emperor == ("/env",), "a repeatable option is taken wholly from the highest place"
    assert dict(found.origins) == {
        "reload_mercy": "command line",
        "emperor_freq": "EMPERORCTL_EMPEROR_FREQ",
        "emperor": "EMPERORCTL_EMPEROR",
        "emperor_throttle": "e.ini:5",
        "emperor_broodlord": "e.ini:6",
    }
    assert loaded(file, "/a", env=env, emperor=["/b"]).settings.emperor == ("/a", "/b")


def test_a_later_file_overrules_and_adds() -> None:
    write("a.ini", "[uwsgi]\nemperor=/a\nreload-mercy=1\n")
    write("b.ini", "[uwsgi]\nemperor=/b\nemperor=/c\nreload-mercy=2\n")
    found = loaded("a.ini", "b.ini")
    assert found.settings.emperor == ("/a", "/b", "/c") and found.settings.reload_mercy == 2
    assert found.origins["emperor"] == "a.ini:2, b.ini:2, b.ini:3"


def test_a_variable_may_hold_several_values_and_an_alias_is_a_name() -> None:
    env = {"EMPERORCTL_EMPEROR": '["/a", "[x]*.ini"]', "EMPERORCTL_EMPEROR_STATS_SERVER": "/s"}
    found = loaded(env=env)
    assert found.settings.emperor == ("/a", "[x]*.ini") and found.settings.emperor_stats == "/s"
    assert loaded(env={"EMPERORCTL_EMPEROR": "[x]*.ini"}).settings.emperor == ("[x]*.ini",)
    assert loaded(env={"EMPERORCTL_SOCKET": "", "EMPERORCTL_INSTANCE": "x"}).settings.socket is None


def test_uwsgis_variables_and_placeholders_are_expanded(tmp_path: Path) -> None:
    Path("where").write_text("/from/a/file\n")
    write(
        "my.ini",
        "[uwsgi]\nset-ph = a=/srv\nown = %(a)/own\nset = reload-mercy=7\nemperor = %(own)/%n\nemperor = %d/v\n"
        "emperor = $(THERE)/x\nemperor = @(where)\nemperor = /%x/100%%\n",
    )
    found = loaded("my.ini", env={"THERE": "/there"})
    assert found.settings.emperor == (
        "/srv/own/my", f"{tmp_path}//v", "/there/x", "/from/a/file", "/uwsgi/100%",
    )  # fmt: skip
    assert found.settings.reload_mercy == 7 and found.origins["reload_mercy"] == "my.ini:4"


def test_files_include_others_and_other_sections(tmp_path: Path) -> None:
    write("base.ini", "[uwsgi]\nroot = /srv\nreload-mercy = 5\nemperor = %N\n[other]\nemperor = /other\n")
    write(
        "my.ini",
        "[uwsgi]\ninclude = base.ini\nini = base.ini:other\nemperor = %(root)/v\nini = :more\n[more]\nwatch=poll\n",
    )
    found = loaded("my.ini")
    assert found.settings.emperor == ("my", "/other", "/srv/v"), "capitals mean the first file"
    assert found.settings.watch == "poll"
    assert found.origins["reload_mercy"] == "base.ini:3"
    assert loaded("base.ini:other").settings.emperor == ("/other",)


def test_an_include_in_a_circle_shows_the_chain() -> None:
    write("a.ini", "[uwsgi]\nini = b.ini\n")
    write("b.ini", "[uwsgi]\nx = 1\ninclude = a.ini\n")
    assert "b.ini:3: include: the files include each other: a.ini → b.ini → a.ini" in refused("a.ini")


def test_what_means_something_to_uwsgi_alone_is_named_and_ignored() -> None:
    write("e.ini", "[uwsgi]\nemperor=/v\nmaster=true\nsocket=:3031\nlog-format=%(pid)\n".replace("%(pid)", "x"))
    found = load(Arguments(("e.ini",), foreign=("processes",)), {"EMPERORCTL_WSGI_FILE": "x"})
    assert [line.partition(" means")[0] for line in found.warnings] == [
        "--processes",
        "EMPERORCTL_WSGI_FILE: wsgi-file",
        "e.ini:3: master",
        "e.ini:4: socket",
        "e.ini:5: log-format",
    ]
    assert "is called control-socket here" in found.warnings[3]
    assert found.settings.socket is None and found.settings.log_format == "text"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("emperor-throtle = 3", "e.ini:3: unknown option emperor-throtle (did you mean emperor-throttle?)"),
        ("proceses = 3", "e.ini:3: unknown option proceses (did you mean processes?)"),
        ("zebra = 3", "e.ini:3: unknown option zebra (docs/options.md lists all options)"),
        ("emperor-throttle = 3s", 'expected a whole number of milliseconds from 0 to 86400000, got "3s" (write 3000)'),
        ("emperor-throttle = -1", "expected a whole number of milliseconds from 0"),
        ("reload-mercy = nan", "e.ini:3: reload-mercy: expected a number of seconds from 0 to 86400"),
        ("reload-mercy = 1e99", "e.ini:3: reload-mercy: expected a number of seconds"),
        ("emperor-nofollow = maybe", 'e.ini:3: emperor-nofollow: expected true or false, got "maybe"'),
        ("watch = sometimes", 'e.ini:3: watch: expected auto, inotify or poll, got "sometimes"'),
        ("emperor-wrapper =", "e.ini:3: emperor-wrapper: expected a text that is not empty, got nothing"),
        ("if-env = X", "e.ini:3: if-env: conditions and loops are not supported"),
        ("hook-as-vassal = print:x", "e.ini:3: hook-as-vassal is not supported yet"),
        ("emperor-wrapper = %(nope)", "e.ini:3: the placeholder %(nope) is not set above"),
        ("emperor-wrapper = $(NOPE)", "e.ini:3: the environment variable NOPE is not set"),
        ("emperor-wrapper = @(/nonexistent)", "can't read the configuration file /nonexistent"),
        ("emperor-wrapper = %q", "e.ini:3: the variable %q is not known"),
        ("ini = http://x/y.ini", "e.ini:3: ini: http://x/y.ini is not a file"),
        ("include = gone.ini", "can't read the configuration file gone.ini: No such file"),
        ("set = x", "e.ini:3: set: expected KEY=VALUE"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_names_its_place(text: str, message: str) -> None:
    assert message in refused(write("e.ini", f"[uwsgi]\nemperor = /v\n{text}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spec: {emperor: 7}", "e.yaml:3:8: spec.emperor: expected a string, or a list of strings, got the integer 7"),
        ("spec: {emperorThrottle: 7}", "expected a duration such as 500ms, 30s or 5m, got the integer 7"),
        ("spec: {emperorThrottle: 7 parsecs}", "spec.emperorThrottle: expected a duration"),
        ("spec: {emperorThrottle: 300d}", "e.yaml:3: emperorThrottle: expected a whole number of milliseconds from 0"),
        ("spec: {emperor-throttle: 1s}", "emperor-throttle: is not a known field (did you mean `emperorThrottle`?)"),
        ("spec: {emperorNofollow: 'yes'}", 'spec.emperorNofollow: expected true or false, got "yes"'),
        ("spec: []", "spec: expected a mapping, got a list"),
        ("specs: {}", "specs: is not a known field (did you mean `spec`?)"),
        ("---\nkind: Emperor", "several documents: an Emperor has one"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_native_file_names_its_place(text: str, message: str) -> None:
    assert message in refused(write("e.yaml", f"apiVersion: emperor/v1\nkind: Emperor\n{text}\n"))


def test_a_vassals_file_is_no_file_of_the_emperor() -> None:
    manifest = write("v.yaml", "apiVersion: emperor/v1\nkind: Vassal\nspec: {command: [x]}\n")
    assert "this describes a vassal, not the Emperor (name the directory that it lies in)" in refused(manifest)
    assert "app.ini: no source: there is no option emperor in it" in refused(write("app.ini", "[uwsgi]\nmaster=1\n"))


def test_a_word_is_a_file_a_source_or_a_mistake(tmp_path: Path) -> None:
    Path("dir.ini").mkdir()
    write("notes.txt", "x")
    assert loaded("dir.ini", "later", "*.ini", "dir://x.ini").settings.emperor == (
        "dir.ini",
        "later",
        "*.ini",
        "dir://x.ini",
    )
    assert "notes.txt: neither a directory nor a configuration file" in refused("notes.txt")
    assert "nope.ini: there is no such configuration file" in refused("nope.ini")
    os.mkfifo("pipe.ini")
    assert "pipe.ini: neither" in refused("pipe.ini")
    with pytest.raises(UserError, match="is not a regular file"):
        load(Arguments(files=("pipe.ini",)), {})
    with pytest.raises(UserError, match="not a configuration file: its name ends in none of"):
        load(Arguments(files=("notes.txt",)), {})


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"EMPERORCTL_RELOAD_MERCY": "5m"}, "EMPERORCTL_RELOAD_MERCY: expected a number of seconds from 0 to 86400"),
        ({"EMPERORCTL_EMPEROR_FREK": "5"}, "EMPERORCTL_EMPEROR_FREK: unknown option emperor-frek (did you mean"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(env: dict[str, str], message: str) -> None:
    assert message in refused(env=env)


def test_what_uwsgis_emperor_obeys_and_this_one_has_not_is_refused_as_a_variable_too() -> None:
    told = refused("/v", env={"EMPERORCTL_EXEC_AS_VASSAL": "/bin/true"})
    assert told.startswith("EMPERORCTL_EXEC_AS_VASSAL: exec-as-vassal is not supported yet")


def test_whom_the_emperor_is_to_run_as_is_an_option_of_its_own() -> None:
    told = loaded(write("e.ini", "[uwsgi]\nemperor=/v\nuid=www-data\ngid=33\ncap=setuid,setgid\n"))
    assert (told.settings.uid, told.settings.gid, told.settings.cap) == ("www-data", "33", "setuid,setgid")
    assert told.warnings == ()
