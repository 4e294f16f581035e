"""Slow things beside each other, of which none holds up the others, now or later."""

from __future__ import annotations

import threading

from server_stub.frontend.together import Together
from server_stub.frontend.wake import Wake


def test_each_has_its_result_or_its_error() -> None:
    def fail() -> int:
        raise ValueError("no")

    with Wake() as wake:
        done = Together({"one": lambda: 1, "two": fail}, wake).results(60)
    assert done["one"] == 1
    assert isinstance(done["two"], ValueError)


def test_one_that_does_not_end_gets_no_second_thread_and_costs_the_others_nothing() -> None:
    goes_on, began = threading.Event(), []

    def endless() -> int:
        began.append(True)
        goes_on.wait(60)
        return 1

    def quick() -> int:
        return 2

    with Wake() as wake:
        try:
            first = Together({"endless": endless, "quick": quick}, wake).results(0.2)
            assert isinstance(first["endless"], TimeoutError)
            for _ in range(3):
                again = Together({"endless": endless, "quick": quick}, wake).results(60)
                assert (again["quick"], str(again["endless"])) == (2, "what was asked before has not ended yet")
            assert len(began) == 1
        finally:
            goes_on.set()
            for thread in threading.enumerate():
                if thread.name.startswith("to endless "):
                    thread.join()
        assert Together({"endless": endless}, wake).results(60) == {"endless": 1}
