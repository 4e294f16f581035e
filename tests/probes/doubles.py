"""Doubles of NVIDIA's libraries: small shared libraries with the same symbols, compiled where the tests run.

They stand in for hardware that is not at hand. The probe finds them as it finds the real ones, by a directory of
``LD_LIBRARY_PATH``; a text file beside each says what it answers.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("nvml_double.c", "cuda_double.c", "blas_double.c", "quota_layout.c")
PROGRAMS = ("quota_layout.c",)
"""Those that are programs and no libraries; static, as they also run in trees with another C library."""
COMPILED_VARIABLE = "PILOT_TEST_DOUBLES"
"""Where they lie already compiled, for a tree without a compiler."""


def compile_all(directory: Path) -> None:
    """Compile all doubles into a directory that ``PILOT_TEST_DOUBLES`` may name."""
    directory.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        (directory / f"{source}.so").write_bytes(_compiled(source))


def nvml_double(directory: Path, answers: str) -> dict[str, str]:
    """Put NVML's double into a directory; the environment in which it is found. ``answers``: see its source."""
    return _placed("nvml_double.c", directory / "libnvidia-ml.so.1", answers)


def cuda_double(directory: Path, behaviour: str) -> dict[str, str]:
    """The same for the driver's library of CUDA; ``behaviour`` is right, wrong, hang, die or ``fail CALL NUMBER``."""
    return _placed("cuda_double.c", directory / "libcuda.so.1", behaviour)


def blas_double(directory: Path, behaviour: str) -> dict[str, str]:
    """The driver and cuBLAS in one, which multiplies on the processor; ``behaviour`` is right, wrong, none (there is no
    GPU) or ``fail CALL NUMBER``."""
    _placed("blas_double.c", directory / "libcuda.so.1", behaviour)
    return _placed("blas_double.c", directory / "libcublas.so.12", behaviour)


def quota_layout(directory: Path) -> str:
    """The program that prints the layout of the kernel's header for quotas; its path in ``directory``."""
    program = directory / "quota_layout"
    program.write_bytes(_compiled("quota_layout.c"))
    program.chmod(0o755)
    return str(program)


def _placed(source: str, library: Path, text: str) -> dict[str, str]:
    library.parent.mkdir(parents=True, exist_ok=True)
    library.write_bytes(_compiled(source))
    Path(f"{library}.txt").write_text(text)
    return {"LD_LIBRARY_PATH": str(library.parent)}


@functools.cache
def _compiled(source: str) -> bytes:
    """The library or program; compiled once in a run. Fails where no C compiler is installed."""
    there = os.environ.get(COMPILED_VARIABLE)
    if there:
        return (Path(there) / f"{source}.so").read_bytes()
    compiler = shutil.which("cc")
    assert compiler, "these tests need a C compiler and the kernel's headers: install gcc, libc6-dev, linux-libc-dev"
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "double.so"
        form = ["-static"] if source in PROGRAMS else ["-shared", "-fPIC"]
        options = [*form, "-O1", "-o", str(target), str(HERE / source)]
        ended = subprocess.run([compiler, *options, "-ldl"], capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return target.read_bytes()
