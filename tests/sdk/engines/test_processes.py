"""Several processes: builds that are called off, parents that die, two that want the same plan."""

import os
import signal
import time

from pretend_machine import PLAN_FILES

USE = """
    with stylizer() as it:
        print(settled(it) == PLAN, (it.run(frame) == 255 - frame).all())
"""


def gone(number):
    """Whether a process is no more; one that nobody waited for counts as gone."""
    try:
        with open(f"/proc/{number}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(condition, seconds=100):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_close_during_a_build_leaves_no_child_and_no_lock(machine):
    machine.run(
        """
        it = stylizer()
        it.run(frame)
        child = building()
        start = time.monotonic()
        it.close()
        assert time.monotonic() - start < 20
        assert not os.path.exists(f"/proc/{child}"), "waited for, so that not even a zombie is left"
        import threading
        assert threading.active_count() == 1
        """,
        {"seconds": 60},
    )
    assert machine.files() == []
    assert machine.run(USE).stdout == "True True\n"


def test_a_program_that_ends_without_close_ends_its_build(machine):
    machine.run("it = stylizer()\nit.run(frame)\nbuilding()", {"hang": 60})
    assert len(machine.builds()) == 1 and all(map(gone, machine.builds()))
    assert machine.files() == []


def test_ctrl_c_is_not_for_the_child(machine):
    machine.run(
        """
        import signal
        signal.signal(signal.SIGINT, lambda *_: None)
        with stylizer() as it:
            it.run(frame)
            building()
            os.killpg(0, signal.SIGINT)
            assert settled(it) == PLAN
        """,
        {"seconds": 1},
    )


def test_a_killed_parent_takes_the_child_along_and_blocks_nobody(machine):
    # One that reports nothing: a report to nobody would end it, too.
    parent = machine.start("it = stylizer()\nit.run(frame)\ntime.sleep(60)", {"hang": 60})
    until(machine.builds)
    (child,) = machine.builds()
    assert not gone(child)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    until(lambda: gone(child))
    assert machine.run(USE).stdout == "True True\n"
    assert machine.files() == PLAN_FILES


def test_two_processes_at_once_give_one_plan(machine):
    both = [machine.start(USE, {"seconds": 3}) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [out for out, _ in told] == ["True True\n"] * 2, told
    assert len(machine.builds()) == 1
    assert machine.files() == PLAN_FILES


def test_who_waits_takes_over_when_the_builder_is_killed(machine):
    first = machine.start("it = stylizer()\nit.run(frame)\ntime.sleep(60)", {"seconds": 60})
    until(machine.builds)
    second = machine.start(USE)
    time.sleep(1)  # enough that it waits; were it late, it would find no lock and pass as well
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert second.communicate(timeout=120)[0] == "True True\n"
    assert len(machine.builds()) == 2
