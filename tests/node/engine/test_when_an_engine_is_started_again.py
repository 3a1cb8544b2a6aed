"""The supervisor: crashes are tried again, broken files are not, loops end."""

from __future__ import annotations

from node.engine.supervisor import (
    AnswerFinished,
    Loaded,
    LoadFailed,
    ProcessExited,
    RestartConfig,
    SelfTestPassed,
    StartProcess,
    Stopped,
    Supervisor,
)

CRASH = ProcessExited("was ended by SIGSEGV")


def running() -> Supervisor:
    supervisor = Supervisor(RestartConfig())
    supervisor.handle(Loaded(), 0.0)
    supervisor.handle(SelfTestPassed(), 0.0)
    return supervisor


def test_a_loaded_and_tested_engine_is_ready() -> None:
    supervisor = Supervisor(RestartConfig())
    assert supervisor.start() == StartProcess(0.0, use_extra_bufts=True)
    states = [supervisor.state]
    for event in (Loaded(), SelfTestPassed()):
        supervisor.handle(event, 0.0)
        states.append(supervisor.state)
    assert states == ["starting", "starting", "ready"]


def test_a_crash_is_tried_again_later_each_time() -> None:
    supervisor = running()
    assert supervisor.handle(CRASH, 1.0) == StartProcess(0.2, use_extra_bufts=True)
    assert (supervisor.state, supervisor.reason) == ("restarting", "the engine was ended by SIGSEGV")
    assert supervisor.handle(CRASH, 2.0) == StartProcess(1.0, use_extra_bufts=True)


def test_a_restart_loop_ends_in_failed_with_the_reason() -> None:
    supervisor = running()
    for now in (1.0, 2.0):
        assert supervisor.handle(CRASH, now) is not None
        supervisor.handle(Loaded(), now)
        supervisor.handle(SelfTestPassed(), now)
    supervisor.handle(CRASH, 3.0)
    assert supervisor.state == "failed"
    assert supervisor.reason == "the engine was ended by SIGSEGV, 3 times in a row"


def test_a_model_that_loads_for_longer_than_a_minute_cannot_crash_for_ever() -> None:
    supervisor = running()
    for now in (100.0, 200.0):
        assert supervisor.handle(ProcessExited("was ended by SIGSEGV"), now) is not None
    supervisor.handle(CRASH, 300.0)
    assert supervisor.state == "failed"


def test_a_failed_engine_is_tried_again_after_a_long_pause() -> None:
    supervisor = running()
    for now in (1.0, 2.0):
        supervisor.handle(CRASH, now)
    for now in (3.0, 700.0):
        assert supervisor.handle(CRASH, now) == StartProcess(600.0, use_extra_bufts=True)
        assert supervisor.state == "failed"
    supervisor.handle(Loaded(), 1400.0)
    assert supervisor.state == "failed"
    supervisor.handle(SelfTestPassed(), 1400.0)
    assert (supervisor.state, supervisor.reason) == ("ready", "")


def test_an_answer_in_between_forgives_the_crashes_before() -> None:
    supervisor = running()
    supervisor.handle(CRASH, 1.0)
    supervisor.handle(CRASH, 2.0)
    supervisor.handle(AnswerFinished(), 3.0)
    assert supervisor.handle(CRASH, 4.0) == StartProcess(0.2, use_extra_bufts=True)


def test_crashes_far_apart_do_not_add_up() -> None:
    supervisor = running()
    for at in range(1, 10):
        assert supervisor.handle(CRASH, at * 61.0) == StartProcess(0.2, use_extra_bufts=True)
        supervisor.handle(SelfTestPassed(), at * 61.0)


def test_the_time_for_which_an_engine_was_stuck_forgives_nothing() -> None:
    supervisor = running()
    for at in range(1, 4):
        supervisor.handle(ProcessExited("was stuck", "stuck"), at * 90.0)
        if at < 3:
            supervisor.handle(SelfTestPassed(), at * 90.0)
    assert supervisor.state == "failed"


def test_a_model_that_needs_too_much_memory_again_has_failed_for_good() -> None:
    supervisor = running()
    too_large = ProcessExited("needed more memory than 2.00 GiB", "too_large")
    assert supervisor.handle(too_large, 1.0) is not None
    supervisor.handle(Loaded(), 1.0)
    # In the self-test that is no sign of the illness it looks for.
    assert supervisor.handle(too_large, 2.0) is None
    assert supervisor.state == "failed"
    assert supervisor.reason == "the engine needed more memory than 2.00 GiB, 2 times in a row"


def test_a_file_that_cannot_be_loaded_is_not_tried_again() -> None:
    supervisor = Supervisor(RestartConfig())
    supervisor.handle(LoadFailed("the file is missing"), 0.0)
    assert supervisor.handle(ProcessExited("exited with 0"), 0.1) is None
    assert (supervisor.state, supervisor.reason) == ("failed", "the file is missing")


def test_a_death_in_the_self_test_is_tried_at_once_without_repacked_weights() -> None:
    supervisor = Supervisor(RestartConfig())
    supervisor.handle(Loaded(), 0.0)
    assert supervisor.handle(CRASH, 0.1) == StartProcess(0.0, use_extra_bufts=False)
    supervisor.handle(Loaded(), 0.2)
    supervisor.handle(SelfTestPassed(), 0.3)
    # It stays that way: the machine has not changed.
    assert supervisor.handle(CRASH, 9.0) == StartProcess(0.2, use_extra_bufts=False)


def test_a_second_death_in_the_self_test_is_a_crash_like_any_other() -> None:
    supervisor = Supervisor(RestartConfig(crashes_max=1, too_large_max=1))
    supervisor.handle(Loaded(), 0.0)
    supervisor.handle(CRASH, 0.1)
    supervisor.handle(Loaded(), 0.2)
    supervisor.handle(CRASH, 0.3)
    assert supervisor.state == "failed"


def test_a_stopped_engine_is_not_ready() -> None:
    supervisor = running()
    supervisor.handle(Stopped(), 1.0)
    assert (supervisor.state, supervisor.reason) == ("failed", "the engine was stopped")
