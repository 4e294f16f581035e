"""The matrix product: the choice of a library, and the arithmetic by doubles on the processor: no GPU is involved."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pilot_gemm import product
from pilot_gemm.product import LEFT, RIGHT, NoProductError, choose, measure

from pilot_agent.process import Result, run
from tests.probes.doubles import blas_double

PROGRAM = Path(product.__file__)


class Multiplier:
    """A library that counts what it is asked for; time passes by it and by nothing else."""

    name, version, device = "double", "1", "no GPU"

    def __init__(self, wrong_by: float = 0.0) -> None:
        self.time, self.products, self._begun, self._size, self._wrong_by = 0.0, 0, 0, 0, wrong_by

    def prepare(self, size: int) -> None:
        self._size = size

    def multiply(self) -> None:
        self._begun += 1

    def wait(self) -> None:
        self.time += 0.001 * self._begun
        self.products, self._begun = self.products + self._begun, 0

    def extremes(self) -> tuple[float, float]:
        right = LEFT * RIGHT * self._size
        return right, right + self._wrong_by


def refusing(name: str, error: Exception) -> Callable[[], Any]:
    """A library that cannot be used."""

    def library() -> Any:
        raise error

    library.name = name  # type: ignore[attr-defined]
    return library


def multiplied(environment: dict[str, str], *words: str) -> Result:
    """The program as it runs in an image, with libraries that are found by this environment."""
    argv = [sys.executable, "-I", "-S", str(PROGRAM), *words]
    return run(argv, deadline_seconds=120, environment=environment)


def test_the_rate_is_two_operations_for_each_of_n_cubed() -> None:
    library = Multiplier()
    found = measure(library, 1000, 0.1, clock=lambda: library.time)
    assert found["score"] == pytest.approx(2 * 1000**3 / 0.001 / 1e12)
    assert found["unit"] == "TFLOP/s"
    assert found["repetitions"] == [found["score"]] * len(found["repetitions"])
    assert len(found["repetitions"]) >= product.ROUNDS
    assert found["conditions"]["library"] == "double 1"


def test_products_are_timed_in_rounds_that_are_long_enough() -> None:
    library = Multiplier()
    found = measure(library, 128, 10.0, clock=lambda: library.time)
    assert library.products > 1000 * len(found["repetitions"]) / 5


@pytest.mark.parametrize("wrong_by", [1.0, -1.0, float("nan")])
def test_a_wrong_product_is_no_score(wrong_by: float) -> None:
    library = Multiplier(wrong_by)
    with pytest.raises(NoProductError, match="the GPU miscalculates"):
        measure(library, 128, 0.01, clock=lambda: library.time)


def test_the_first_library_that_sees_a_gpu_is_taken() -> None:
    found = choose([refusing("one", NoProductError("sees no GPU")), Multiplier, refusing("three", ImportError())])
    assert isinstance(found, Multiplier)


def test_where_there_is_none_each_says_why() -> None:
    libraries = [
        refusing("one", NoProductError("sees no GPU")),
        refusing("two", ImportError()),
        refusing("three", OSError("broken")),
    ]
    with pytest.raises(NoProductError) as caught:
        choose(libraries)
    assert str(caught.value) == "one: sees no GPU; two: the image does not have it; three: OSError: broken"


def test_a_library_that_is_asked_for_is_the_only_one_tried() -> None:
    with pytest.raises(NoProductError, match=r"^two: the image does not have it$"):
        choose([refusing("one", NoProductError("no")), refusing("two", ImportError())], "two")


def test_without_a_gpu_the_program_says_so_and_fails(tmp_path: Path) -> None:
    found = multiplied({"LD_LIBRARY_PATH": str(tmp_path)}, "128", "0.1")
    assert found.code == 1
    said = found.stderr.decode()
    assert said.startswith("no matrix product on a GPU: torch: the image does not have it; cupy: the image does not")
    assert "cublas: there is no libcuda.so.1" in said


def test_a_driver_without_a_device_is_no_gpu(tmp_path: Path) -> None:
    found = multiplied(blas_double(tmp_path, "none"), "128", "0.1")
    assert (found.code, found.stdout) == (1, b"")
    assert b"cublas: the driver sees no GPU" in found.stderr


def test_by_the_driver_and_cublas_a_product_is_made_and_checked(tmp_path: Path) -> None:
    found = multiplied(blas_double(tmp_path, "right"), "128", "0.1")
    assert found.ok, found.explain()
    answer = json.loads(found.stdout)
    assert answer["score"] > 0
    assert answer["conditions"] == {
        "library": "cublas 120000",
        "device": "a double",
        "format": "float32",
        "size": 128,
    }


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("wrong", "the product has 129.0 where 128.0 belongs: the GPU miscalculates"),
        ("fail cuInit 100", "cublas: cuInit failed with the status 100"),
        ("fail cuMemAlloc_v2 2", "cuMemAlloc_v2 failed with the status 2"),
        ("fail cublasSgemm_v2 13", "cublasSgemm_v2 failed with the status 13"),
        ("fail cuCtxSynchronize 700", "cuCtxSynchronize failed with the status 700"),
    ],
)
def test_what_the_driver_refuses_is_told(tmp_path: Path, behaviour: str, said: str) -> None:
    found = multiplied(blas_double(tmp_path, behaviour), "128", "0.1", "cublas")
    assert (found.code, found.stdout) == (1, b"")
    assert said in found.stderr.decode()
