"""What the kernel does with a process when others end (prctl(2)): adopt every orphan below it, end with its parent."""

from __future__ import annotations

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Make this process adopt orphaned descendants, also after an exec; False where that is not possible."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> bool:
    """Let the kernel send this process a signal when its parent ends; False where that is not possible."""
    return _prctl(PR_SET_PDEATHSIG, signal_number)


def _prctl(option: int, argument: int) -> bool:
    """Goes through the compiled half of ctypes alone: the whole package costs 250 KiB in a process that stays, this 60,
    and a second start of the interpreter to get rid of it 25 ms.
    """
    try:
        import _ctypes

        program = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # NULL is the program itself, dlopen(3)
        address = _ctypes.dlsym(program, "prctl")
        return bool(_ctypes.call_cdeclfunction(address, (option, argument, 0, 0, 0)) == 0)
    except (ImportError, AttributeError, OSError):  # a Python built without libffi
        return False
