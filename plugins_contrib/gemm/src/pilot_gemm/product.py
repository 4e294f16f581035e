#!/usr/bin/env python3
"""Multiply matrices on the first GPU; run as ``product.py SIZE SECONDS [LIBRARY]`` where the GPU libraries are.

One file, standard library only, for the Python of any image from 3.8 on. Both matrices hold one number each, so that
every element of the product is known, and looked at. Its last line of output is JSON: TFLOP/s of 32-bit products (2 n^3
operations each, without tensor cores' shortened formats), and what else it found. Without a GPU or a library it exits 1
with the reason.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

LEFT, RIGHT = 0.5, 2.0
ROUNDS = 5
TOLERANCE = 1e-3
"""Of an element, as a share of it: sums of equal powers of two are exact, and this leaves room for other formats."""

MOST_ELEMENTS = 1_000_000
"""Looked at, where only Python can look."""


class NoProductError(Exception):
    """There is nothing to multiply with, or the product is wrong; the message says why."""


class Torch:
    """PyTorch, with its own CUDA or ROCm."""

    name = "torch"

    def __init__(self) -> None:
        self._torch = importlib.import_module("torch")
        if not self._torch.cuda.is_available():
            raise NoProductError("torch sees no GPU")
        self.version = str(self._torch.__version__)
        self.device = str(self._torch.cuda.get_device_name(0))
        self._torch.backends.cuda.matmul.allow_tf32 = False

    def prepare(self, size: int) -> None:
        """Fill both matrices."""
        make = self._torch.full
        self._one = make((size, size), LEFT, dtype=self._torch.float32, device="cuda")
        self._two = make((size, size), RIGHT, dtype=self._torch.float32, device="cuda")
        self._product = self._torch.empty_like(self._one)

    def multiply(self) -> None:
        """Begin one product."""
        self._torch.matmul(self._one, self._two, out=self._product)

    def wait(self) -> None:
        """Until all that was begun is done."""
        self._torch.cuda.synchronize()

    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest element of the product."""
        return float(self._product.min()), float(self._product.max())


class Cupy:
    """CuPy."""

    name = "cupy"

    def __init__(self) -> None:
        self._cupy = importlib.import_module("cupy")
        try:
            count = self._cupy.cuda.runtime.getDeviceCount()
        except Exception as error:  # a class of CuPy's own
            raise NoProductError(f"cupy sees no GPU: {error}") from error
        if not count:
            raise NoProductError("cupy sees no GPU")
        self.version = str(self._cupy.__version__)
        name = self._cupy.cuda.runtime.getDeviceProperties(0)["name"]
        self.device = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)

    def prepare(self, size: int) -> None:
        """Fill both matrices."""
        self._one = self._cupy.full((size, size), LEFT, dtype=self._cupy.float32)
        self._two = self._cupy.full((size, size), RIGHT, dtype=self._cupy.float32)
        self._product = self._cupy.empty((size, size), dtype=self._cupy.float32)

    def multiply(self) -> None:
        """Begin one product."""
        self._cupy.matmul(self._one, self._two, out=self._product)

    def wait(self) -> None:
        """Until all that was begun is done."""
        self._cupy.cuda.Device(0).synchronize()

    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest element of the product."""
        return float(self._product.min()), float(self._product.max())


class Cublas:
    """NVIDIA's driver and cuBLAS by themselves (CUDA Driver API, cuBLAS v2 API)."""

    name = "cublas"
    drivers = ("libcuda.so.1",)
    libraries = ("libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so")

    def __init__(self) -> None:
        self._driver = _library(self.drivers)
        self._blas = _library(self.libraries)
        self._driven("cuInit", 0)
        count = ctypes.c_int()
        self._driven("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise NoProductError("the driver sees no GPU")
        device = ctypes.c_int()
        self._driven("cuDeviceGet", ctypes.byref(device), 0)
        name = ctypes.create_string_buffer(256)
        self._driven("cuDeviceGetName", name, len(name), device)
        self.device = name.value.decode("utf-8", "replace")
        context = ctypes.c_void_p()
        self._driven("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._driven("cuCtxSetCurrent", context)
        self._handle = ctypes.c_void_p()
        self._called(self._blas.cublasCreate_v2(ctypes.byref(self._handle)), "cublasCreate_v2")
        number = ctypes.c_int()
        self._called(self._blas.cublasGetVersion_v2(self._handle, ctypes.byref(number)), "cublasGetVersion_v2")
        self.version = str(number.value)

    def prepare(self, size: int) -> None:
        """Fill both matrices."""
        self._size = size
        self._places = [self._filled(size * size, value) for value in (LEFT, RIGHT, 0.0)]

    def multiply(self) -> None:
        """Begin one product."""
        size = ctypes.c_int(self._size)
        one, two, product = self._places
        alpha, beta = ctypes.c_float(1.0), ctypes.c_float(0.0)
        status = self._blas.cublasSgemm_v2(
            self._handle, 0, 0, size, size, size,
            ctypes.byref(alpha), one, size, two, size, ctypes.byref(beta), product, size,
        )  # fmt: skip
        self._called(status, "cublasSgemm_v2")

    def wait(self) -> None:
        """Until all that was begun is done."""
        self._driven("cuCtxSynchronize")

    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest of a million elements of the product."""
        found = (ctypes.c_float * (self._size * self._size))()
        self._driven("cuMemcpyDtoH_v2", found, self._places[2], ctypes.c_size_t(ctypes.sizeof(found)))
        looked_at = found[:: max(1, len(found) // MOST_ELEMENTS) | 1]
        return float(min(looked_at)), float(max(looked_at))

    def _filled(self, count: int, value: float) -> ctypes.c_uint64:
        place = ctypes.c_uint64()
        self._driven("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(count * 4))
        pattern = ctypes.c_uint32.from_buffer(ctypes.c_float(value))
        self._driven("cuMemsetD32_v2", place, pattern, ctypes.c_size_t(count))
        return place

    def _driven(self, name: str, *arguments: Any) -> None:
        self._called(getattr(self._driver, name)(*arguments), name)

    def _called(self, status: int, name: str) -> None:
        if status:
            raise NoProductError(f"{name} failed with the status {status}")


def _library(names: Sequence[str]) -> Any:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise NoProductError(f"there is no {' or '.join(names)}")


LIBRARIES: tuple[Callable[[], Any], ...] = (Torch, Cupy, Cublas)


def choose(libraries: Sequence[Callable[[], Any]], wanted: str = "") -> Any:
    """The first library that is there and sees a GPU. Raises ``NoProductError`` with the reason of each."""
    reasons: list[str] = []
    for library in libraries:
        name = getattr(library, "name", "")
        if wanted and wanted != name:
            continue
        try:
            return library()
        except NoProductError as error:
            reasons.append(f"{name}: {error}")
        except ImportError:
            reasons.append(f"{name}: the image does not have it")
        except Exception as error:  # noqa: BLE001 - a library that breaks as it is loaded raises what it likes
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    raise NoProductError("; ".join(reasons) or f"there is no library {wanted}")


def measure(library: Any, size: int, seconds: float, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Rounds of products for ``seconds``, each checked. Raises ``NoProductError`` for a wrong product."""
    library.prepare(size)
    library.multiply()  # the first one chooses its kernel, and is not timed
    library.wait()
    rates: list[float] = []
    count = 1
    end = clock() + seconds
    while len(rates) < ROUNDS or clock() < end:
        began = clock()
        for _ in range(count):
            library.multiply()
        library.wait()
        took = max(clock() - began, 1e-9)
        if took < seconds / ROUNDS / 4 and count < 1 << 16:
            count *= 2  # too short for the clock and for the way to the GPU
            continue
        rates.append(2.0 * size**3 * count / took / 1e12)
    _require_right(library, size)
    return {
        "score": round(statistics.median(rates), 4),
        "unit": "TFLOP/s",
        "repetitions": [round(rate, 4) for rate in rates[:100]],
        "conditions": {
            "library": f"{library.name} {library.version}",
            "device": library.device,
            "format": "float32",
            "size": size,
        },
    }


def _require_right(library: Any, size: int) -> None:
    expected = LEFT * RIGHT * size
    for found in library.extremes():
        if not abs(found - expected) <= TOLERANCE * expected:
            raise NoProductError(f"the product has {found} where {expected} belongs: the GPU miscalculates")


def main(arguments: Sequence[str], libraries: Sequence[Callable[[], Any]] | None = None) -> int:
    """0 with the JSON on standard output, 1 with the reason on standard error."""
    size, seconds, wanted = int(arguments[0]), float(arguments[1]), "".join(arguments[2:3])
    try:
        library = choose(LIBRARIES if libraries is None else libraries, wanted)
        answer = measure(library, size, seconds)
    except NoProductError as error:
        sys.stderr.write(f"no matrix product on a GPU: {error}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
