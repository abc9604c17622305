from __future__ import annotations

import re
from typing import Any

from emperorctl.cli.describe import lines_of
from tests.fakes.emperor import BORN, FakeEmperor, vassal

NOW = BORN + 3600


def described(one: dict[str, Any], *events: dict[str, Any]) -> str:
    return "\n".join(lines_of(one, events, NOW)) + "\n"


def test_a_vassal_in_good_health() -> None:
    emperor = FakeEmperor()
    emperor.note("shop", "Spawned", "launch 1")
    emperor.clock.now += 600
    emperor.note("shop", "Spawned", "launch 1")
    one = vassal("shop", meta_labels={"tier": "front", "team": "web"}, meta_generation=2)
    assert described(one, *emperor.events.list()) == (
        "Name:         shop\n"
        "Labels:       team=web\n"
        "              tier=front\n"
        "Annotations:  <none>\n"
        "Kind:         native\n"
        "Source:       dir:///etc/vassals\n"
        "File:         /etc/vassals/shop.yaml\n"
        "Created:      2026-11-24T03:00:00Z (60m ago)\n"
        "Generation:   2 (running: 1)\n"
        "Status:       Running\n"
        "Ready:        1/1\n"
        "Restarts:     0\n"
        "First Run:    2026-11-24T03:00:00Z (60m ago)\n"
        "Last Run:     2026-11-24T03:00:00Z (60m ago)\n"
        "Reloads:      0\n"
        "Last Reload:  <none>\n"
        "Last Exit:    <none>\n"
        "Blacklist:    <none>\n"
        "Log:          /var/lib/emperorctl/logs/shop.log\n"
        "Spec:\n"
        "  command:  gunicorn -b 127.0.0.1:8000\n"
        "  reload:\n"
        "    signal:  SIGHUP\n"
        "Processes:\n"
        "  PID   UID  GID  Age\n"
        "  ---   ---  ---  ---\n"
        "  4711  33   33   60m\n"
        "Conditions:\n"
        "  Type         Status  Reason    Age  Message\n"
        "  ----         ------  ------    ---  -------\n"
        "  Accepted     True    Valid     60m\n"
        "  Ready        True    Started   60m\n"
        "  Loyal        True    Survived  60m\n"
        "  Progressing  False   Settled   60m\n"
        "Events:\n"
        "  Type    Reason   Age                From     Message\n"
        "  ----    ------   ---                ----     -------\n"
        "  Normal  Spawned  50m (x2 over 60m)  emperor  launch 1\n"
    )


def test_it_says_where_values_come_from() -> None:
    origins = {"spec.user": "/d.yaml:4", "spec.stop": "default"}
    text = described(vassal("shop", status_origins=origins, status_index=3))
    assert "Index:        3\n" in text
    assert "Origins:\n  spec.user:   /d.yaml:4\n  spec.stop:   default\n  all others:  " in text
    file = vassal("shop")["status"]["file"]
    text = described(vassal("shop", status_origins={**origins, "spec.env.A": f"{file}:4"}))
    assert "all others" not in text


def test_a_blacklisted_vassal_says_why_and_when() -> None:
    text = described(
        vassal(
            "shop",
            spec={},
            status_phase="Blacklisted",
            status_processes=[],
            status_ready=0,
            status_respawns=3,
            status_lastRespawn="2026-11-24T03:59:00Z",
            status_lastExit={
                "code": 3,
                "reason": "Error",
                "message": "exited with code 3",
                "at": "2026-11-24T03:59:50Z",
            },
            status_blacklist={
                "attempts": 3,
                "firstAttempt": "2026-11-24T03:50:00Z",
                "lastAttempt": "2026-11-24T03:59:50Z",
                "throttle": 12.0,
                "nextTry": "2026-11-24T04:00:02Z",
            },
            status_conditions=[
                {
                    "type": "Ready",
                    "status": "False",
                    "reason": "Blacklisted",
                    "message": "exited with code 3; retry now with: emperorctl blacklist clear shop",
                    "lastTransitionTime": "2026-11-24T03:59:50Z",
                }
            ],
        )
    )
    assert "Restarts:     3, the last 60s ago\n" in text
    assert "Last Exit:    Error: exited with code 3, 10s ago\n" in text
    assert "Blacklist:    3 attempts since 10m, next try in 2s (waits 12s)\n" in text
    assert (
        "Why:          exited with code 3; retry now with: emperorctl blacklist clear shop (since 10s);"
        " fix the cause (see emperorctl logs shop); the next try is due in 2s\n" in text
    )
    assert "Spec:  <none>\n" in text
    assert "Processes:  <none>\n" in text
    assert text.endswith("Events:  <none>\n")


def test_a_refused_edit_of_a_running_vassal_is_told() -> None:
    one = vassal("shop")
    one["status"]["conditions"][0] |= {"status": "False", "reason": "UnknownField", "message": "shop.yaml:3: no"}
    expected = "shop.yaml:3: no (since 60m); /etc/vassals/shop.yaml is read again as soon as it is saved corrected"
    assert f"Why:          {expected}\n" in described(one)


def test_what_is_not_there_has_no_line() -> None:
    text = described(vassal("shop"))
    for key in ("Throttled:", "Last Heartbeat:", "Message:", "Zerg Of:", "Why:"):
        assert key not in text


def test_what_a_vassal_says_of_itself() -> None:
    text = described(
        vassal(
            "shop",
            status_message="serving\x1b]0;x\x07\n3 of 4",
            status_lastHeartbeat="2026-11-24T03:59:55Z",
            status_throttledUntil="2026-11-24T04:00:03Z",
            status_zergOf="broodlord",
            status_reloads=2,
            status_lastReload="2026-11-24T03:59:00Z",
        )
    )
    fields = dict(re.findall(r"(?m)^([A-Z][A-Za-z ]*): +(.+)$", text))
    assert fields["Message"] == "serving\\x1b]0;x\\x07 3 of 4"
    assert fields["Last Heartbeat"] == "2026-11-24T03:59:55Z (5s ago)"
    assert fields["Throttled"] == "next try in 3s"
    assert fields["Zerg Of"] == "broodlord"
    assert fields["Reloads"] == "2"


def test_a_choice_without_settings_is_a_word() -> None:
    assert "  reload:  restart\n  env:     <none>\n" in described(
        vassal("x", spec={"reload": {"restart": {}}, "env": {}})
    )


def test_nothing_from_elsewhere_reaches_the_terminal_raw() -> None:
    one = vassal("shop", spec={"command": ["sh", "-c", "a\nb\x1b[2J"], "env": {"A\x07": "\u202e"}, "none": None})
    one["metadata"]["labels"] = {"x": "\x1b]0;t\x07"}
    one["status"]["conditions"][1]["message"] = "first\x1b[31m\nsecond"
    text = described(one)
    assert all(char == "\n" or char.isprintable() for char in text)
    assert "sh -c 'a\\nb\\x1b[2J'" in text
    assert "first\\x1b[31m second" in text
    assert "none:     <none>" in text


def test_what_is_used_of_what_may_be() -> None:
    limits = {"memory": "64Mi", "cpu": "500m", "pids": 20}
    usage = {"memory": 12 << 20, "oomKills": 2, "pids": 3, "cpuSeconds": 1.5}
    one = vassal("shop", spec={"command": ["a"], "resources": {"limits": limits}}, status_usage=usage)
    told = "12.0Mi memory of 64Mi, 3 pids of 20, 1.5s of processor time so far, 2 killed for want of memory"
    assert re.search(rf"(?m)^Uses: +{re.escape(told)}$", described(one))
    assert "Uses:" not in described(vassal("shop"))
