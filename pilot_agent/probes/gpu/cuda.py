"""The test whether an NVIDIA device really works: memory is taken, a small program computes on it, the result compared.

Through CUDA's driver interface alone (``libcuda.so.1``, which comes with the driver), so no toolkit is needed. The
program is PTX, an assembly language that the driver translates for the device it finds.

What was tried on what: the whole test runs against a double of that library with the same symbols, compiled in the
tests (right, failing, hanging, miscomputing). The program was translated once with NVIDIA's assembler (ptxas 12.4) for
compute capabilities 5.0 to 9.0. No real device was at hand.

Only ever called in a child, one for each device: a broken driver hangs, and a test that goes wrong may end its process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilot_agent.model import Json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.gpu.driver_library import load_library

if TYPE_CHECKING:
    import ctypes

LIBRARY = "libcuda.so.1"
WORDS = 1 << 20
SEED, FACTOR, ADDEND = 0x01234567, 0x9E3779B1, 0x7F4A7C15
_BLOCK = 256
_MASK = 0xFFFFFFFF
# Every word becomes word * factor + addend + its place, modulo 2**32.
PROGRAM = """\
.version 6.0
.target {target}
.address_size 64
.visible .entry pilot_agent_test(
    .param .u64 words, .param .u32 count, .param .u32 factor, .param .u32 addend)
{{
    .reg .pred %beyond;
    .reg .b32 %r<9>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [words];
    ld.param.u32 %r1, [count];
    ld.param.u32 %r2, [factor];
    ld.param.u32 %r3, [addend];
    mov.u32 %r4, %ctaid.x;
    mov.u32 %r5, %ntid.x;
    mov.u32 %r6, %tid.x;
    mad.lo.u32 %r7, %r4, %r5, %r6;
    setp.ge.u32 %beyond, %r7, %r1;
    @%beyond bra END;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r7, 4;
    add.u64 %rd4, %rd2, %rd3;
    ld.global.u32 %r8, [%rd4];
    mad.lo.u32 %r8, %r8, %r2, %r3;
    add.u32 %r8, %r8, %r7;
    st.global.u32 [%rd4], %r8;
END:
    ret;
}}
"""
_HINTS = {
    2: "no memory of it is free: other processes hold it",
    46: "another process holds it exclusively, or it failed",
    100: "CUDA sees no device",
    214: "an uncorrectable memory error; the site must reset or replace it",
    222: "its driver cannot translate the program; the site must update the driver",
    719: "the program failed on it",
    802: "the system is not ready; the site must start nvidia-fabricmanager",
    803: "driver and library are of different releases; the site must reboot after the driver's update",
    999: "unknown error; the site must look for Xid in the kernel's log",
}


class _Failed(Exception):  # noqa: N818 - it ends one test and is told as data
    """A call of the driver that failed: its name and number."""


def try_device(identity: str, environment: Mapping[str, str]) -> Json:
    """Compute on one device, named by UUID or by its place on the bus.

    ``{"step": ..., "error": 0}`` with ``wrong`` (how many words are not what they should be) when it computed, else
    the call that failed with CUDA's number and name. Raises ``OSError`` where there is no driver library.
    """
    import ctypes

    by_uuid = identity.upper().startswith(("GPU-", "MIG-"))
    # The library looks when it starts. All other devices are hidden, so that only this one is woken and touched.
    os.environ["CUDA_VISIBLE_DEVICES"] = identity if by_uuid else ""
    if not by_uuid:
        del os.environ["CUDA_VISIBLE_DEVICES"]
    cuda = load_library(LIBRARY, environment)
    try:
        wrong, first = _compute(cuda, ctypes, identity, by_uuid)
    except _Failed as failure:
        step, number = failure.args
        return {"step": step, "error": number, "name": _error_name(cuda, ctypes, number)}
    return {"step": "compare", "error": 0, "words": WORDS, "wrong": wrong, "first": first}


def judge_test(answer: Answer) -> str:
    """Why a device did not pass; empty when it did."""
    if answer.hung or answer.stuck:
        return "its test did not end in time: it or its driver hangs; the site must reset it or reboot the node"
    value = answer.value
    if not isinstance(value, dict):
        return f"it could not be tested: {answer.problem or 'no answer'}"
    number, wrong = value.get("error"), value.get("wrong")
    if number == 0 and wrong == 0:
        return ""
    if number == 0:
        return f"it computes wrong: {wrong} of {value.get('words')} words; the site must take it out of use"
    hint = _HINTS.get(number, "the site must repair it or its driver") if isinstance(number, int) else ""
    return f"its test failed: {value.get('step')} gave {value.get('name') or number}: {hint}"


def _compute(cuda: ctypes.CDLL, ctypes: Any, identity: str, by_uuid: bool) -> tuple[int, Json]:
    """How many words are wrong, and the first of them: place, found, expected."""

    def call(name: str, *arguments: Any) -> None:
        function = getattr(cuda, name, None)
        number = 500 if function is None else function(*arguments)
        if number:
            raise _Failed(name, number)

    device, context = ctypes.c_int(), ctypes.c_void_p()
    memory, module, kernel = ctypes.c_uint64(), ctypes.c_void_p(), ctypes.c_void_p()
    call("cuInit", ctypes.c_uint(0))
    if by_uuid:
        call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    else:
        call("cuDeviceGetByPCIBusId", ctypes.byref(device), identity.encode())
    call("cuCtxCreate_v2", ctypes.byref(context), ctypes.c_uint(0), device)
    size = ctypes.c_size_t(WORDS * 4)
    call("cuMemAlloc_v2", ctypes.byref(memory), size)
    call("cuMemsetD32_v2", memory, ctypes.c_uint(SEED), ctypes.c_size_t(WORDS))
    call("cuModuleLoadData", ctypes.byref(module), program(_major(cuda, ctypes, device)).encode() + b"\0")
    call("cuModuleGetFunction", ctypes.byref(kernel), module, b"pilot_agent_test")
    values = (memory, ctypes.c_uint(WORDS), ctypes.c_uint(FACTOR), ctypes.c_uint(ADDEND))
    pointers = (ctypes.c_void_p * 4)(*(ctypes.addressof(value) for value in values))
    one = ctypes.c_uint(1)
    grid, block = ctypes.c_uint(-(-WORDS // _BLOCK)), ctypes.c_uint(_BLOCK)
    nothing = ctypes.c_void_p()
    call("cuLaunchKernel", kernel, grid, one, one, block, one, one, ctypes.c_uint(0), nothing, pointers, nothing)
    call("cuCtxSynchronize")
    words = (ctypes.c_uint * WORDS)()
    call("cuMemcpyDtoH_v2", words, memory, size)
    call("cuMemFree_v2", memory)
    call("cuCtxDestroy_v2", context)
    return _compared(words)


def _compared(words: Any) -> tuple[int, Json]:
    import array

    found = array.array("I", bytes(words))
    base = SEED * FACTOR + ADDEND
    expected = array.array("I", ((base + place) & _MASK for place in range(WORDS)))
    if found == expected:
        return 0, None
    wrong = [place for place in range(WORDS) if found[place] != expected[place]]
    return len(wrong), [wrong[0], found[wrong[0]], expected[wrong[0]]]


def program(major: int) -> str:
    """The program for devices of a compute capability; the oldest drivers know no newer target."""
    return PROGRAM.format(target="sm_50" if major >= 5 else "sm_30")


def _major(cuda: ctypes.CDLL, ctypes: Any, device: Any) -> int:
    value = ctypes.c_int()
    attribute = ctypes.c_int(75)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    found = cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) == 0
    return value.value if found else 5


def _error_name(cuda: ctypes.CDLL, ctypes: Any, number: int) -> str | None:
    name = ctypes.c_char_p()
    try:
        found = cuda.cuGetErrorName(ctypes.c_int(number), ctypes.byref(name)) == 0
    except AttributeError:
        return None
    return name.value.decode("ascii", "replace") if found and name.value else None
