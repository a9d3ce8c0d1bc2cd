"""Files that people brought find room, or do not."""

from __future__ import annotations

import gc
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest

from explorer.sharing.holdings import Holdings, NoRoomError


class File:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def test_room_is_reserved_before_a_file_is_read() -> None:
    """Six people at once, of whom three find room: nobody reads before all have asked."""
    holdings, asked, read = Holdings(350), threading.Barrier(6), []

    def upload(number: int) -> str:
        try:
            with holdings.room(100, f"{number}.pt") as hold:
                asked.wait(30)
                read.append(File(100))
                hold(read[-1])
                return ""
        except NoRoomError as error:
            asked.wait(30)
            return str(error)

    with ThreadPoolExecutor(6) as people:
        said = list(people.map(upload, range(6)))
    refused = [words for words in said if words]
    assert len(refused) == 3
    assert all(".pt finds no room: this server already holds" in words for words in refused)
    assert holdings.bytes == 300
    read.clear()
    gc.collect()
    assert holdings.bytes == 0


def test_ones_own_file_makes_way_for_the_next() -> None:
    holdings, mine = Holdings(100), File(80)
    with holdings.room(80, "first") as hold:
        hold(mine)
    assert holdings.bytes == 80
    with pytest.raises(NoRoomError), holdings.room(30, "another"):
        pytest.fail("there is no room")
    with holdings.room(90, "second", instead=mine):
        assert holdings.bytes == 170
    with pytest.raises(RuntimeError), holdings.room(20, "broken"):
        raise RuntimeError
    assert holdings.bytes == 80


def test_files_come_and_go_while_others_count() -> None:
    holdings = Holdings(2**20)

    def people(_: int) -> None:
        mine: deque[File] = deque(maxlen=50)
        for _ in range(1000):
            with holdings.room(1, "name") as hold:
                mine.append(File(1))
                hold(mine[-1])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(people, range(3)))
