"""Requests, tokens and dollars: what is let through, by a clock of our own, and what arrives at a real server."""

import asyncio

import pytest
import ray

from mimix_ray.config import VlmConfig
from mimix_ray.vlm import Vlm, VlmError, api_key, to_jpegs
from mimix_ray.vlm.actors import shared_limits
from mimix_ray.vlm.cost import Price, image_tokens, price_of, question_tokens
from mimix_ray.vlm.limits import GRACE_S, HORIZON_S, Limits, check_limits
from tests.vlm.conftest import question
from tests.vlm.hostile import picture


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def sent(limits, clock, count, tokens=0, usd=0.0):
    """Times at which `count` requests go out when each asks again as it is told."""
    times = []
    while len(times) < count:
        admission = asyncio.run(limits.admit(tokens, usd, 10))
        if admission.exhausted:
            break
        if admission.granted:
            times.append(clock.now + admission.wait_s)
        else:
            clock.now += admission.wait_s
    return times


def most_in(times, seconds):
    return max(sum(start <= at < start + seconds for at in times) for start in times)


def test_no_minute_has_more_requests_than_allowed():
    clock = Clock()
    times = sent(Limits(requests_per_minute=90, clock=clock), clock, 400)
    assert most_in(times, 60) == 90
    assert times[-1] - times[0] == pytest.approx(399 * 60 / 90, rel=0.01)


def test_no_minute_has_more_tokens_than_allowed_however_late_answers_come():
    clock = Clock()
    limits = Limits(tokens_per_minute=60_000, clock=clock)
    times = sent(limits, clock, 100, tokens=2000)
    assert most_in(times, 60) <= 30 and times[-1] - times[0] == pytest.approx(99 * 2, rel=0.01)
    # More than was reserved holds the next one back.
    clock.now = times[-1] + 10
    admission = asyncio.run(limits.admit(2000, 0, 10))
    asyncio.run(limits.settle(admission.ticket, 6000, 0))
    (late,) = sent(limits, clock, 1, tokens=2000)
    assert admission.granted and late >= times[-1] + 10 + 6


def test_a_pause_holds_for_all_and_they_do_not_come_back_at_once():
    clock = Clock()
    limits = Limits(clock=clock)
    asyncio.run(limits.pause(8))
    asyncio.run(limits.pause(3))
    waits = [asyncio.run(limits.admit(0, 0, 10)).wait_s for _ in range(50)]
    assert 8 <= min(waits) < max(waits) <= 9


def test_money_in_flight_counts_with_the_most_that_it_can_cost():
    limits = Limits(max_usd=1.0, clock=Clock())

    def admit():
        return asyncio.run(limits.admit(0, 0.3, 10))

    tickets = [admit().ticket for _ in range(3)]
    waiting = admit()
    assert not waiting.granted and not waiting.exhausted
    asyncio.run(limits.settle(tickets.pop(), 0, 0.1))
    tickets.append(admit().ticket)
    assert not admit().granted
    for ticket in tickets:
        asyncio.run(limits.settle(ticket, 0, 0.3))
        asyncio.run(limits.settle(ticket, 0, 0.3))  # once more, or of an actor before this one: counts for nothing
    assert admit().exhausted and limits._spent == pytest.approx(1.0)


def test_what_a_dead_sender_held_counts_as_spent():
    clock = Clock()
    limits = Limits(max_usd=1.0, clock=clock)
    assert all(asyncio.run(limits.admit(0, 0.4, 10)).granted for _ in range(2))
    assert not asyncio.run(limits.admit(0, 0.4, 10)).exhausted
    clock.now += 10 + GRACE_S + 1
    assert asyncio.run(limits.admit(0, 0.4, 10)).exhausted


def test_the_rate_holds_at_the_server_over_several_actors(ray_cluster, server, storage):
    config = VlmConfig(base_url=server.base_url, model="hostile", api_key_env="NO_KEY", requests_per_minute=600)
    gate = shared_limits(config)

    @ray.remote(num_cpus=0)
    class Asker:
        def __init__(self):
            self.vlm = Vlm(config, storage, api_key(config), gate)

        def ask(self, numbers):
            return [outcome.kind for outcome in self.vlm.ask_all([question(n) for n in numbers])]

    askers = [Asker.remote() for _ in range(3)]
    kinds = ray.get([asker.ask.remote(range(first, 28, 3)) for first, asker in enumerate(askers)])
    assert [kind for some in kinds for kind in some] == ["ok"] * 28
    # Ten a second; those to which a place was given ahead may be late and arrive together with the next.
    assert most_in(server.times, 1.0) <= 11 + HORIZON_S * 10 and server.times[-1] - server.times[0] > 2.7 - HORIZON_S


def test_what_is_not_sent_for_want_of_money_is_asked_the_next_time(server, make_vlm):
    prices = {"hostile": (100.0, 1000.0)}
    # 1000 tokens in and 50 out are 15 cents; before the answer some 1500 in and 64 out are held back.
    first = make_vlm(max_usd=1.0, prices=prices, max_tokens=64, concurrency=1)
    kinds = [outcome.kind for outcome in first.ask_all([question(n) for n in range(12)])]
    paid = kinds.count("ok")
    assert 4 <= paid <= 6 and kinds.count("budget_exhausted") == 12 - paid and len(server.clips) == paid
    again = make_vlm(prices=prices, max_tokens=64).ask_all([question(n) for n in range(12)])
    assert [outcome.kind for outcome in again] == ["ok"] * 12 and len(server.clips) == 12


def test_answers_that_nobody_bills_count_with_the_most(server, make_vlm):
    server.modes = {n: ["hang"] for n in range(6)}
    vlm = make_vlm(max_usd=0.5, prices={"hostile": (100.0, 1000.0)}, max_tokens=64, timeout_s=0.3, max_attempts=9)
    outcomes = vlm.ask_all([question(n) for n in range(6)])
    assert {one.kind for one in outcomes} == {"budget_exhausted"} and len(server.clips) <= 3


def test_prices():
    assert price_of(VlmConfig(model="gpt-4o-2024-08-06")) == Price(2.5, 10)
    assert price_of(VlmConfig(model="gpt-4.1")).usd(2_000_000, 1_000_000) == pytest.approx(12)
    assert price_of(VlmConfig(model="qwen")) is None
    with pytest.raises(VlmError, match=r"vlm.prices has no price of 'qwen'"):
        check_limits(VlmConfig(model="qwen", max_usd=1))


@pytest.mark.parametrize(
    ("width", "height", "tokens"), [(1024, 1024, 765), (2048, 4096, 1105), (832, 480, 425), (64, 48, 255)]
)
def test_images_cost_what_openai_says(width, height, tokens):
    """The first two are the worked examples of its documentation."""
    assert image_tokens(width, height) == tokens


def test_a_question_is_its_text_and_its_frames():
    one, two = question(1), question(1, context="a" * 300)
    assert question_tokens(two) - question_tokens(one) == pytest.approx(100, abs=2)
    assert len(one.frames) == 2 and to_jpegs([picture(1)], 48, 90)[0] == one.frames[0]
    assert question_tokens(one) > 2 * 255
