"""Who a vassal runs as: ids and names, refusals, and name services that hang."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from emperorctl.models.errors import UserError
from emperorctl.reconciler.runtime.identity import Identities, Identity, IdentityError, group_id, look_up, parse_id


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("1000", 1000), ("2147483647", 2**31 - 1), ("web", None)])
def test_ids_and_names(text: str, number: int | None) -> None:
    assert parse_id(text, "user") == number


@pytest.mark.parametrize(
    "text", ["-1", "0", "4294967295", "2147483648", "4294967296", " 1", "+1", "007", "٣", "9" * 30, "-", " 1_000 "]
)
def test_numbers_that_are_nobodys_never_become_root(text: str) -> None:
    with pytest.raises(IdentityError):
        look_up(text, None)
    with pytest.raises(IdentityError):
        look_up(None, text)


@pytest.mark.parametrize("text", ["", "no such user", "0x0", "0day", "a\0b", "\udcff", "root2"])
def test_unknown_names_are_told(text: str) -> None:
    with pytest.raises(IdentityError) as unknown:
        look_up(text, None)
    assert unknown.value.reason in {"UnknownUser", "InvalidUser"}
    assert unknown.value.remedy


def test_nothing_asked_is_the_emperors_own() -> None:
    found = look_up(None, None)
    assert (found.uid, found.gid, found.switch) == (os.geteuid(), os.getegid(), False)
    assert found.home


def test_a_number_without_an_entry_has_its_own_group_and_no_home() -> None:
    found = look_up("54321", None)
    assert found == Identity(54321, 54321, (), "54321", "/", "/bin/sh", switch=True)


def test_a_group_alone_keeps_the_user() -> None:
    found = look_up(None, "54321")
    assert (found.uid, found.gid, found.groups, found.switch) == (os.geteuid(), 54321, (), True)


def test_one_question_for_many_and_answers_are_kept() -> None:
    asked = []

    def lookup(user: str | None, group: str | None) -> Identity:
        asked.append(user)
        return look_up(None, None)

    async def scene() -> None:
        identities = Identities(asyncio.get_running_loop(), lookup)
        answers: list[object] = []
        told = asyncio.Event()

        def tell(answer: object) -> None:
            answers.append(answer)
            told.set()

        for _ in range(100):
            identities.ask("web", None, tell)
        assert not answers
        await told.wait()
        assert len(answers) == 100
        identities.ask("web", None, answers.append)
        assert len(answers) == 101
        assert asked == ["web"]

    asyncio.run(scene())


def test_a_name_service_that_hangs_is_a_transient_failure_and_not_asked_without_end() -> None:
    release = threading.Event()

    def lookup(user: str | None, group: str | None) -> Identity:
        release.wait(20)
        raise OSError("too late")

    async def scene() -> None:
        identities = Identities(asyncio.get_running_loop(), lookup, timeout=0.01)
        answers: list[object] = []
        for number in range(30):
            identities.ask(f"u{number}", None, answers.append)
        assert len(answers) == 14
        async with asyncio.timeout(20):
            while len(answers) < 30:  # noqa: ASYNC110
                await asyncio.sleep(0)
        release.set()
        for answer in answers:
            assert isinstance(answer, IdentityError)
            assert (answer.reason, answer.transient) == ("UserLookupTimeout", True)

    asyncio.run(scene())


def test_several_are_asked_for_in_turn_until_one_is_unknown() -> None:
    def lookup(user: str | None, group: str | None) -> Identity:
        if user == "nobody-there":
            raise IdentityError("UnknownUser", "no such user", "")
        return Identity(7, 7, (), user or "", "/", "/bin/sh", switch=True)

    async def scene() -> None:
        identities = Identities(asyncio.get_running_loop(), lookup)
        answers: list[object] = []
        keys: list[list[tuple[str | None, str | None]]] = [
            [("a", None)],
            [("a", None), ("b", "g")],
            [("a", None), ("nobody-there", None), ("c", None)],
        ]
        for some in keys:
            identities.ask_all(some, answers.append)
        async with asyncio.timeout(20):
            while len(answers) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0)
        names = [tuple(one.name for one in answer) for answer in answers if isinstance(answer, tuple)]
        assert sorted(names) == [("a",), ("a", "b")]
        (error,) = [answer for answer in answers if isinstance(answer, IdentityError)]
        assert error.reason == "UnknownUser"

    asyncio.run(scene())


def test_a_number_has_the_groups_of_its_user_only_where_they_are_asked_for() -> None:
    import pwd

    user = max(
        (one for one in pwd.getpwall() if one.pw_uid not in (0, os.geteuid())),
        key=lambda one: len(os.getgrouplist(one.pw_name, 7)),
    )
    assert look_up(str(user.pw_uid), "7").groups == ()
    assert look_up(str(user.pw_uid), "7", True).groups == tuple(os.getgrouplist(user.pw_name, 7))
    assert look_up("54321", "7", True).groups == ()


def test_groups_by_name_and_by_number() -> None:
    assert group_id("root", "--socket-group") == 0
    assert group_id("4711", "--socket-group") == 4711
    with pytest.raises(UserError, match=r'there is no group "no-such\\x1bgroup"'):
        group_id("no-such\x1bgroup", "--socket-group")
    with pytest.raises(UserError, match="there is no group"):
        group_id("4294967295", "--socket-group")
