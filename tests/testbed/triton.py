"""An unpacked image with the real Triton server (NVIDIA's wheel for PyTriton carries it), its Python backend and its
clients, and a repository with a model whose answers can be checked. It runs on the CPU."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.testbed import cache, images
from tests.testbed.command import call
from tests.testbed.grid import EXTRAS_INSIDE, extras
from tests.testbed.images import ImageRecipe

INSTALL_TIMEOUT_SECONDS = 600.0
PYTHON = "3.11"

SERVER = "nvidia-pytriton==0.7.0"
CLIENTS = (
    "tritonclient==2.73.0",
    # The Python backend was built for NumPy 1: with a newer one all tensors are empty.
    "numpy==1.26.4",
    "ml_dtypes==0.5.4",
    "python-rapidjson==1.25",
    "urllib3==2.8.0",
    "geventhttpclient==2.6.1",
    "gevent==26.9.0",
    "greenlet==3.3.2",
    "zope.event==6.2",
    "zope.interface==8.7",
    "brotli==1.2.1",
    "certifi==2026.10.18",
    "grpcio==1.85.1",
    "typing_extensions==4.16.0",
    "protobuf==6.33.6",
    "packaging==26.3",
)
"""The clients for HTTP and gRPC with all that they import."""

# Of the wheel's programs for the Python backend only those for older Pythons use the image's own library of Python; the
# one for 3.13 brings its own, which does not fit Debian's modules.
IMAGE = ImageRecipe(
    name="image",
    suite="bookworm",
    packages=("python3", f"libpython{PYTHON}", "libstdc++6"),
    not_unpacked=images.NOT_NEEDED,
    mount_points=images.MOUNT_POINTS,
    action_test=images.ACTION_TEST_SCRIPT,
    edition=1,
)
PACKAGES = f"usr/local/lib/python{PYTHON}/dist-packages"

SCALE = 3.0
OFFSET = 1.0
CONFIGURATION = """\
backend: "python"
max_batch_size: 0
input [{name: "INPUT", data_type: TYPE_FP32, dims: [-1]}]
output [{name: "OUTPUT", data_type: TYPE_FP32, dims: [-1]}]
instance_group [{kind: KIND_CPU, count: 1}]
"""
MODEL = f"""\
import numpy
import triton_python_backend_utils as utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            values = utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
            answer = (values * {SCALE} + {OFFSET}).astype(numpy.float32)
            answers.append(utils.InferenceResponse([utils.Tensor("OUTPUT", answer)]))
        return answers
"""
BROKEN_MODEL = "import a_library_that_is_not_there\n"

REPOSITORIES = {
    "models": {"scale": (CONFIGURATION, MODEL)},
    "broken": {"scale": (CONFIGURATION, MODEL), "wrong": (CONFIGURATION, BROKEN_MODEL)},
}
"""Name of a repository -> name of a model -> its configuration and its program."""


def ensure(root: Path | None = None) -> Path:
    """A directory with ``image`` and the repositories ``models`` and ``broken``; made when the cache does not hold it
    (about two minutes). Raises CommandError."""
    recipe = [asdict(IMAGE), SERVER, CLIENTS, REPOSITORIES]
    return cache.build_once(root if root is not None else extras(), "triton", recipe, _build)


def inside(path: Path) -> str:
    """Where the grid's worker nodes see it."""
    return f"{EXTRAS_INSIDE}/{path.name}"


def _build(target: Path) -> None:
    image, clients, wheel = target / IMAGE.name, target / "clients", target / "wheel"
    with ThreadPoolExecutor() as pool:
        parts = [
            pool.submit(images.build_directory, IMAGE, image),
            pool.submit(_install, clients, CLIENTS),
            pool.submit(_install, wheel, (SERVER,)),
        ]
        for part in parts:
            part.result()
    shutil.copytree(clients, image / PACKAGES, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(clients)
    wheel.rename(image / "opt" / "wheel")
    _lay_out_server(image)
    for repository, models in REPOSITORIES.items():
        for name, (configuration, program) in models.items():
            version = target / repository / name / "1"
            version.mkdir(parents=True)
            (version.parent / "config.pbtxt").write_text(configuration, encoding="ascii")
            (version / "model.py").write_text(program, encoding="ascii")


def _install(target: Path, packages: tuple[str, ...]) -> None:
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--no-compile", "--only-binary=:all:", f"--python-version={PYTHON}", f"--target={target}", *packages]
    call(words, timeout_seconds=INSTALL_TIMEOUT_SECONDS)


def _lay_out_server(image: Path) -> None:
    """The server where NVIDIA's own images have it, with the backend's program for the image's Python."""
    server = image / "opt" / "wheel" / "pytriton" / "tritonserver"
    stub = "triton_python_backend_stub"
    shutil.copyfile(server / "python_backend_stubs" / PYTHON / stub, server / "backends" / "python" / stub)
    shutil.rmtree(server / "python_backend_stubs")
    for program in (server / "bin" / "tritonserver", server / "backends" / "python" / stub):
        program.chmod(0o755)
    (image / "opt" / "tritonserver").symlink_to("wheel/pytriton/tritonserver")
    (image / "usr" / "local" / "bin" / "tritonserver").symlink_to("/opt/tritonserver/bin/tritonserver")
