"""A follower that sleeps is woken by what is published, once, and by nothing else."""

from __future__ import annotations

import os
import select

import pytest

from tradsys.adapters.page.page import ASLEEP, Page
from tradsys.adapters.page.waking import FOLLOWERS, Bells, Sleeper

FEED = ASLEEP + FOLLOWERS.index("feed")


@pytest.fixture
def page(tmp_path) -> Page:
    page = Page.create(str(tmp_path / "page"), 1)
    page.begin(epoch=1, seq=5, segment=1, offset=512, prepared=1)
    return page


def rung(sleeper: Sleeper) -> bool:
    return bool(select.select([sleeper.pipe], [], [], 0)[0])


def test_who_sleeps_is_woken_by_what_is_published_and_only_once(page, tmp_path):
    bells, sleeper = Bells(page.words, str(tmp_path)), Sleeper(page.words, str(tmp_path), "feed")
    assert sleeper.asleep(5)
    bells.ring()
    bells.ring()
    sleeper.awake()

    assert sleeper.asleep(5)
    bells.ring()
    assert not rung(sleeper)
    page.publish(6, 1, 600)
    bells.ring()
    assert rung(sleeper)
    page.publish(7, 1, 700)
    bells.ring()
    assert os.read(sleeper.pipe, 10) == b"\0"


def test_the_pipe_is_emptied_when_the_news_is_out_and_before_the_next_sleep_at_the_latest(page, tmp_path):
    bells, sleeper = Bells(page.words, str(tmp_path)), Sleeper(page.words, str(tmp_path), "feed")
    for seq, empty in ((6, sleeper.quiet), (7, lambda: sleeper.asleep(7))):
        assert sleeper.asleep(seq - 1)
        page.publish(seq, 1, 600)
        bells.ring()
        sleeper.awake()

        assert rung(sleeper)
        empty()
        assert not rung(sleeper)


def test_who_is_awake_costs_no_system_call(page, tmp_path):
    bells, sleeper = Bells(page.words, str(tmp_path)), Sleeper(page.words, str(tmp_path), "feed")

    page.publish(6, 1, 600)
    bells.ring()

    assert not rung(sleeper)
    assert page.words[FEED] == 0


def test_what_was_published_meanwhile_keeps_a_follower_awake(page, tmp_path):
    sleeper = Sleeper(page.words, str(tmp_path), "feed")
    page.publish(6, 1, 600)

    assert not sleeper.asleep(5)
    assert page.words[FEED] == 0
    assert sleeper.asleep(6)


def test_followers_are_woken_each_for_itself(page, tmp_path):
    bells = Bells(page.words, str(tmp_path))
    history, feed = (Sleeper(page.words, str(tmp_path), name) for name in FOLLOWERS)
    assert feed.asleep(5)

    page.publish(6, 1, 600)
    bells.ring()

    assert (rung(history), rung(feed)) == (False, True)


def test_a_follower_that_died_asleep_harms_nobody_and_its_successor_is_woken(page, tmp_path):
    bells = Bells(page.words, str(tmp_path))
    dead = Sleeper(page.words, str(tmp_path), "feed")
    assert dead.asleep(5)
    page.publish(6, 1, 600)
    bells.ring()
    dead.awake()
    assert dead.asleep(6)
    os.close(dead.pipe)
    page.publish(7, 1, 700)
    bells.ring()

    sleeper = Sleeper(page.words, str(tmp_path), "feed")
    assert sleeper.asleep(7)
    page.publish(8, 1, 800)
    bells.ring()

    assert rung(sleeper)
    sleeper.close()
    bells.close()
    assert page.words[FEED] == 0


def test_an_engine_rings_in_vain_where_there_is_no_pipe(page, tmp_path):
    page.words[FEED] = 1

    page.publish(6, 1, 600)
    Bells(page.words, str(tmp_path)).ring()
