"""Secrets in files: only the program gets their values, read with its own rights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.harness import API, Emperor

SECRET = "correct-horse-battery-staple"
ALICE = 61_001


def _from(path: Path) -> dict[str, object]:
    return {"valueFrom": {"file": str(path)}}


def test_only_the_program_gets_the_value(emperor: Callable[..., Emperor]) -> None:
    made = emperor()
    file = made.root / "key"
    file.write_text(f"{SECRET}\n")
    out = made.root / "out"
    made.manifest(
        "shop",
        ["sh", "-c", f'printf "%%s" "$KEY $PLAIN" > {out}.new && mv {out}.new {out}; exec sleep 1000'],
        env={"KEY": _from(file), "PLAIN": "x"},
    )
    made.start()
    pid = made.wait_running("shop")
    made.wait_for(out.exists)
    assert out.read_text() == f"{SECRET} x"
    told = [
        json.dumps(made.api("GET", f"{API}/{path}").body) for path in ("vassals", "vassals/shop", "events", "stats")
    ]
    told += [made.cli(*words.split()).stdout for words in ("describe shop", "get vassals -o yaml", "config view")]
    told.append(Path(f"/proc/{pid}/cmdline").read_text())
    told.append(Path(f"/proc/{made.pid}/environ").read_text())
    made.stop()
    told.append(made.log())
    told += [path.read_text() for path in made.root.rglob("*.log")]
    assert [text for text in told if SECRET in text] == []
    assert str(file) in told[1] and "valueFrom" in told[5]


def test_a_changed_secret_is_taken_at_the_next_start(emperor: Callable[..., Emperor]) -> None:
    made = emperor()
    file = made.root / "key"
    file.write_text("one")
    made.manifest("shop", ["sh", "-c", 'echo "got $KEY"; exec sleep 1000'], env={"KEY": _from(file)})
    made.start()
    pid = made.wait_running("shop")
    made.wait_for(lambda: "got one" in made.api("GET", f"{API}/vassals/shop/log").body)
    file.write_text("two")
    made.api("POST", f"{API}/vassals/shop/reload")
    made.wait_running("shop", other_than=pid)
    made.wait_for(lambda: "got two" in made.api("GET", f"{API}/vassals/shop/log").body)


@pytest.mark.parametrize("kind", ["missing", "fifo", "long", "nul"])
def test_a_secret_that_can_not_be_had_is_a_failed_start_that_names_the_file(
    emperor: Callable[..., Emperor], kind: str
) -> None:
    made = emperor()
    file = made.root / "key"
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "long":
            file.write_text(SECRET * 10_000)
        case "nul":
            file.write_text(f"{SECRET}\0")
    made.manifest("shop", ["sleep", "1000"], env={"KEY": _from(file)})
    made.start()
    made.wait_for(lambda: (made.get("shop") or {}).get("status", {}).get("lastExit"), what="it has failed")
    last = (made.get("shop") or {})["status"]["lastExit"]
    assert last["reason"] == "SecretUnreadable"
    assert f"the value of KEY can't be taken from {file}" in last["message"]
    assert SECRET not in made.log() + json.dumps(made.get("shop"))


@pytest.mark.as_root
def test_a_secret_is_read_with_the_vassals_rights_and_no_others(emperor: Callable[..., Emperor]) -> None:
    made = emperor()
    roots, own = made.root / "roots", made.root / "own"
    for file, owner in ((roots, 0), (own, ALICE)):
        file.write_text(SECRET)
        file.chmod(0o400)
        os.chown(file, owner, owner)
    made.manifest("thief", ["sleep", "1000"], user=str(ALICE), env={"KEY": _from(roots)})
    made.manifest("shop", ["sh", "-c", 'echo "${#KEY}"; exec sleep 1000'], user=str(ALICE), env={"KEY": _from(own)})
    made.start()
    made.wait_running("shop")
    made.wait_for(lambda: f"{len(SECRET)}\n" in made.api("GET", f"{API}/vassals/shop/log").body)
    made.wait_for(lambda: (made.get("thief") or {}).get("status", {}).get("lastExit"), what="it has failed")
    assert "Permission denied" in (made.get("thief") or {})["status"]["lastExit"]["message"]
