"""Several vassals in one uWSGI config, run by the real uWSGI: what serves, what reloads, what is refused."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.harness import Emperor
from e2e.test_uwsgi import answers, ini, settings, wait_greeting, wrapper, xml, yaml

Make = Callable[..., Emperor]
Ports = tuple[int, int, int]


@pytest.fixture
def ports() -> Ports:
    """Three ports that nobody listens at."""
    found = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    numbers = tuple(one.getsockname()[1] for one in found)
    for one in found:
        one.close()
    return numbers  # type: ignore[return-value]


def as_ini(plain: dict[str, str], **sections: dict[str, str]) -> str:
    """A plain section and others, as an ini file."""
    return ini(plain) + "".join(ini(own).replace("[uwsgi]", f"[uwsgi:{name}]") for name, own in sections.items())


def as_yaml(plain: dict[str, str], **sections: dict[str, str]) -> str:
    """The same as YAML."""
    return yaml(plain) + "".join(yaml(own).replace("uwsgi:", f"uwsgi:{name}:", 1) for name, own in sections.items())


def as_xml(plain: dict[str, str], **sections: dict[str, str]) -> str:
    """The same as XML."""
    own = [xml(plain)]
    for name, options in sections.items():
        own.append(xml(options).replace("<uwsgi>", f"<uwsgi:{name}>").replace("</uwsgi>", f"</uwsgi:{name}>"))
    return f"<vassals>\n{''.join(own)}</vassals>\n"


def as_json(plain: dict[str, str], **sections: dict[str, str]) -> str:
    """The same as JSON."""
    return json.dumps({"uwsgi": plain} | {f"uwsgi:{name}": own for name, own in sections.items()}, indent=1)


FORMS = {"ini": as_ini, "yaml": as_yaml, "xml": as_xml, "json": as_json}


@pytest.mark.parametrize("ext", FORMS)
def test_each_section_serves(
    emperor: Make, uwsgi_python: Path, uwsgi_formats: frozenset[str], ports: Ports, ext: str
) -> None:
    if ext not in uwsgi_formats:
        pytest.skip(f"this uwsgi was built without {ext} support")
    e = emperor().start()
    # %x is the section, %n and %d are the file's: uWSGI could not tell without its file.
    plain, blog, shop = (settings(e, port) for port in ports)
    plain["env"], blog["env"], shop["env"] = "GREETING=plain-%n", "GREETING=%x-%n-%c", "GREETING=%x"
    e.write(f"sites.{ext}", FORMS[ext](plain, blog=blog, shop=shop))
    wait_greeting(e, ports[0], "plain-sites")
    wait_greeting(e, ports[1], "blog-sites-vassals")
    wait_greeting(e, ports[2], "shop")
    names = {f"sites.{ext}", f"sites.{ext}:blog", f"sites.{ext}:shop"}
    assert e.objects().keys() == names
    for name in names:
        e.wait_condition(name, "Ready", "True")


Sites = tuple[Emperor, list[dict[str, str]], Ports]


@pytest.fixture
def sites(emperor: Make, uwsgi_python: Path, ports: Ports) -> Iterator[Sites]:
    """An Emperor with a file of three sites that serve: it, their options, their ports."""
    e = emperor().start()
    options = [settings(e, port, "first") for port in ports]
    e.write("sites.ini", as_ini(options[0], blog=options[1], shop=options[2]))
    for port in ports:
        wait_greeting(e, port, "first")
    yield e, options, ports


def test_an_edit_of_one_reloads_that_one(sites: Sites) -> None:
    e, options, ports = sites
    before = [answers(port) for port in ports]
    options[1]["env"] = "GREETING=second"
    e.write("sites.ini", as_ini(options[0], blog=options[1], shop=options[2]))
    after = wait_greeting(e, ports[1], "second")
    assert before[1]
    assert after[2] == before[1][2], "the master keeps its pid"
    assert [answers(port) for port in (ports[0], ports[2])] == [before[0], before[2]]


def test_a_touch_reloads_all(sites: Sites) -> None:
    e, _, ports = sites
    before = [answers(port) for port in ports]
    (e.vassals / "sites.ini").touch()
    for port, old in zip(ports, before, strict=True):
        assert old
        wait_new_worker(e, port, old)


def wait_new_worker(e: Emperor, port: int, old: list[str]) -> None:
    """Wait until another worker of the same master answers."""

    def look() -> bool:
        new = answers(port)
        return new is not None and new[1] != old[1] and new[2] == old[2]

    e.wait_for(look, what=f"another worker answers at port {port}")


def test_a_broken_section_takes_no_other_down(sites: Sites) -> None:
    e, options, ports = sites
    before = [answers(port) for port in ports]
    text = as_ini(options[0], blog=options[1], shop=options[2])
    e.write("sites.ini", text.replace("[uwsgi:blog]", f"[uwsgi:blog]\n; {'x' * 70_000}"))
    e.wait_condition("sites.ini:blog", "Accepted", "False", "TooLarge")
    assert [answers(port) for port in ports] == before
    e.write("sites.ini", text.replace("[uwsgi:blog]", "[uwsgi:b l o g]"))
    for of in ("", ":blog", ":shop"):
        e.wait_condition(f"sites.ini{of}", "Accepted", "False", "InvalidName")
    assert [answers(port) for port in ports] == before
    e.write("sites.ini", as_ini(options[0], shop=options[2]))
    e.wait_absent("sites.ini:blog")
    e.wait_condition("sites.ini", "Accepted", "True")
    assert answers(ports[1]) is None


def test_people_name_them_with_their_colon(sites: Sites) -> None:
    e, _, ports = sites
    name = "sites.ini:blog"
    assert name in e.cli("get", "vassals").stdout
    assert e.cli("get", "vassal", name, "-o", "name").stdout == f"vassal.emperor/{name}\n"
    described = e.cli("describe", "vassal", name)
    assert described.returncode == 0, described.stderr
    assert "uwsgi:blog" in described.stdout
    old = answers(ports[1])
    assert old
    assert e.cli("reload", name).returncode == 0
    wait_new_worker(e, ports[1], old)
    assert e.cli("stop", name).returncode == 0
    e.wait_phase(name, "Suspended")
    assert e.cli("start", name).returncode == 0
    e.wait_running(name)
    listed = e.cli("validate", str(e.vassals)).stdout
    assert f"vassal.emperor/{name} valid" in listed, listed


def test_output_of_one_section_alone(emperor: Make, uwsgi_bin: Path) -> None:
    e = emperor("--uwsgi-logs", "capture").start()
    e.write("two.ini", "[uwsgi:one]\nprint-nothing = 1\nsocket = :0\n[uwsgi:two]\nsocket = :0\n")
    for name in ("two.ini:one", "two.ini:two"):
        e.wait_running(name)
        e.wait_for(lambda name=name: "Starting uWSGI" in e.cli("logs", name).stdout)  # type: ignore[misc]


def test_strangers_sections_are_read_apart(emperor: Make, uwsgi_python: Path, ports: Ports) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can have files of others")
    e = emperor().start()
    draft = e.root / "theirs"
    draft.write_text(as_ini(settings(e, ports[0], "plain"), blog=settings(e, ports[1], "blog")))
    os.chown(draft, 65534, 65534)
    draft.rename(e.vassals / "theirs.ini")
    wait_greeting(e, ports[0], "plain")
    wait_greeting(e, ports[1], "blog")


def test_a_section_of_a_zergs_name_and_a_section_that_calls_for_zergs(emperor: Make) -> None:
    e = emperor("--emperor-broodlord", "2")
    path, noted = wrapper(e, then="os.write(fd, bytes([30, 30]))")
    e.options += ["--emperor-wrapper", str(path)]
    e.write("z.ini", "[uwsgi:zerg]\nsocket = :0\n[uwsgi:a]\nsocket = :0\n[zerg]\nsocket = :0\n")
    e.start()
    e.wait_condition("z.ini:zerg", "Accepted", "False", "ReservedName")
    e.wait_running("z.ini:a")
    e.wait_for(lambda: any(event["reason"] == "NoReinforcements" for event in e.events("z.ini:a")))
    assert [one["argv"] for one in noted() if "argv" in one] == [[str(path), "--ini", "emperor://z.ini:a"]]


def test_toml_tables_are_vassals(emperor: Make) -> None:
    e = emperor().start()
    text = 'apiVersion = "emperor/v1"\nkind = "Vassal"\n'
    for name in ("one", "two"):
        text += f'[[vassal]]\nmetadata.name = "{name}"\nspec.command = ["sleep", "1000"]\nspec.env.A = "{name}-first"\n'
    e.write("several.toml", text)
    one, two = e.wait_running("one"), e.wait_running("two")
    e.write("several.toml", text.replace("two-first", "two-second"))
    e.wait_running("two", other_than=two)
    assert e.main_pid("one") == one
    e.write("several.toml", text.replace("command", "comand", 1))
    e.wait_condition("one", "Accepted", "False", "UnknownField")
    assert e.condition("one", "Accepted")["message"].startswith(f"{e.vassals}/several.toml:5:")
    assert e.main_pid("one") == one
