"""The shared page: one file, several processes, a word for each fact."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tradsys.adapters.page.page import (
    ENGINE_PID,
    HEADER_WORDS,
    LAYOUT_VERSION,
    METRIC_WORDS,
    PAGE_BYTES,
    POSITION,
    PUBLISHED_SEQ,
    Page,
    PageError,
    boot_id,
)
from tradsys.metrics import WORDS_USED


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "page")


def begun(path: str, boot: int = 1) -> Page:
    page = Page.create(path, boot)
    page.begin(epoch=3, seq=100, segment=2, offset=512, prepared=3)
    return page


def test_what_the_engine_writes_its_followers_see(path):
    engine = begun(path)
    follower = Page.open(path, 1)

    engine.publish(107, 2, 900)

    assert follower.current
    assert (follower.epoch, follower.published_seq, follower.durable_seq) == (3, 107, 100)
    assert follower.place() == (107, 2, 900)
    assert (follower.segment, follower.prepared_segment, follower.synced_segment) == (2, 3, 2)


def test_another_process_sees_it_too(path):
    begun(path).publish(2**63, 5, 1 << 39)
    script = (
        "import sys\nfrom tradsys.adapters.page.page import Page\n"
        "page = Page.open(sys.argv[1], 1)\nprint(page.place())\npage.synced(2**62, 4)\n"
    )

    told = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)

    assert told.stdout == f"({2**63}, 5, {1 << 39})\n"
    assert Page.open(path, 1).durable_seq == 2**62


def test_the_page_of_another_boot_means_nothing(path):
    begun(path, boot=1)

    page = Page.create(path, boot=2)

    assert not page.current
    page.begin(epoch=4, seq=90, segment=2, offset=400, prepared=2)
    assert page.current
    assert (page.published_seq, page.durable_seq) == (90, 90)


def test_durable_is_whichever_of_engine_and_follower_synced_more(path):
    engine, follower = begun(path), Page.open(path, 1)

    follower.synced(105, 2)
    assert engine.durable_seq == 105
    engine.synced(104, 2)
    assert engine.durable_seq == 105
    engine.synced(110, 3)
    assert (follower.durable_seq, follower.synced_segment) == (110, 3)


def test_a_place_on_the_move_is_not_given_out(path):
    page = begun(path)

    page.words[9] = 101

    assert page.place() is None


def test_a_new_epoch_heals_a_poisoned_page(path):
    engine = begun(path)
    Page.open(path, 1).poison()
    assert engine.poisoned

    engine.begin(epoch=4, seq=100, segment=2, offset=600, prepared=3)

    assert not engine.poisoned


def test_the_words_are_where_the_constants_say(path):
    page = begun(path)

    page.publish(7, 3, 11)

    assert page.words[PUBLISHED_SEQ] == 7
    assert page.words[POSITION] == 3 << 40 | 11
    assert page.words[ENGINE_PID] != 0
    page.metrics[0] += 5
    assert page.words[HEADER_WORDS] == 5


def test_counters_go_on_over_a_restart_of_the_engine(path):
    begun(path).metrics[12] += 4

    assert begun(path).metrics[12] == 4


def test_there_is_room_for_every_metric():
    assert WORDS_USED <= METRIC_WORDS


def test_a_follower_waits_for_a_page(path):
    with pytest.raises(FileNotFoundError):
        Page.open(path, 1)
    with open(path, "wb") as file:
        file.write(b"half a page")
    with pytest.raises(PageError):
        Page.open(path, 1)


def test_a_page_of_another_layout_is_made_anew_by_the_engine_only(path):
    page = begun(path)
    page.words[LAYOUT_VERSION] = 99
    page.close()

    with pytest.raises(PageError, match="layout"):
        Page.open(path, 1)
    assert Page.create(path, 1).published_seq == 0
    assert Page.open(path, 1).published_seq == 0
    with open(path, "rb") as file:
        assert len(file.read()) == PAGE_BYTES


def test_the_boot_id_is_the_same_until_the_next_boot():
    assert boot_id() == boot_id() != 0
