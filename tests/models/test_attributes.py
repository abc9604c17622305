"""Attributes of uWSGI configs: where they are found, how they are shown, what they change."""

from __future__ import annotations

from emperorctl.models.attributes import collect, labels_and_annotations
from emperorctl.models.uwsgi import read_uwsgi
from emperorctl.models.uwsgi_run import UwsgiRun, uwsgi_vassal, zerg_vassal
from emperorctl.models.vassal import Vassal

INI = b"""[uwsgi]
team = shop
tier = front
chdir = /srv/app
plugin = a
[emperor]
team = web
team = other
runs-in = /srv/app
through = /opt/wrap
"""


def made(run: UwsgiRun, working_dir: str | None = "/v", on_demand: str = "") -> Vassal:
    return uwsgi_vassal(
        name="a.ini",
        file="/v/a.ini",
        ext=".ini",
        working_dir=working_dir,
        source="dir:///v",
        data=INI,
        config=read_uwsgi(INI, ".ini", "/v/a.ini"),
        run=run,
        path="/v/a.ini",
        on_demand=on_demand,
    )


def test_the_emperors_section_goes_before_uwsgis_own_and_the_first_value_counts() -> None:
    sections = read_uwsgi(INI, ".ini", "a").attributes
    assert collect(sections, ("tier", "team", "nothing", "team")) == {"tier": "front", "team": "web"}


def test_what_can_be_no_label_is_an_annotation() -> None:
    labels, annotations = labels_and_annotations({"team": "web", "empty": "", "dir": "/srv", "odd name": "x"})
    assert labels == {"team": "web", "empty": ""}
    assert annotations == {"dir": "/srv", "odd name": "x"}


def test_nothing_is_collected_unless_told() -> None:
    vassal = made(UwsgiRun())
    assert (vassal.labels, vassal.annotations) == ({}, {})
    assert vassal.launch.command == ("uwsgi", "--ini", "a.ini")


def test_collected_attributes_change_nothing_that_runs() -> None:
    vassal = made(UwsgiRun(attributes=("team", "chdir", "missing")))
    assert (vassal.labels, vassal.annotations) == ({"team": "web"}, {"chdir": "/srv/app"})
    assert vassal.launch == made(UwsgiRun()).launch


def test_another_directory_leads_to_the_same_config() -> None:
    vassal = made(UwsgiRun(chdir_attribute="runs-in"))
    assert vassal.launch.working_dir == "/srv/app"
    assert vassal.spec["workingDir"] == "/srv/app"
    assert vassal.launch.command == ("uwsgi", "--ini", "/v/a.ini")
    assert (vassal.name, vassal.annotations) == ("a.ini", {"runs-in": "/srv/app"})
    assert zerg_vassal(vassal, "a.ini:zerg", 1).launch.command == ("uwsgi", "--ini", "/v/a.ini:zerg")


def test_the_socket_lies_where_it_is_bound_and_not_where_the_vassal_is_run() -> None:
    vassal = made(UwsgiRun(chdir_attribute="runs-in"), on_demand="a.sock")
    assert vassal.launch.working_dir == "/srv/app"
    assert vassal.spec["onDemand"]["addresses"] == ["/v/a.sock"]


def test_a_relative_directory_counts_from_the_usual_one() -> None:
    assert made(UwsgiRun(chdir_attribute="tier")).launch.working_dir == "/v/front"
    assert made(UwsgiRun(chdir_attribute="tier"), None).launch.working_dir == "front"


def test_a_wrapper_of_its_own() -> None:
    run = UwsgiRun("uwsgi", wrapper="/opt/usual", wrapper_attribute="through")
    assert made(run).launch.command == ("/opt/wrap", "--ini", "a.ini")
    other = UwsgiRun("uwsgi", wrapper="/opt/usual", wrapper_attribute="missing")
    assert made(other).launch.command == ("/opt/usual", "--ini", "a.ini")


def test_a_graceful_stop() -> None:
    assert made(UwsgiRun(graceful=True)).stop.graceful
    assert not made(UwsgiRun()).stop.graceful
