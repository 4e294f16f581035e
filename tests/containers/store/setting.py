"""What the tests of the store share: a server, a runtime that is a shell script, a store."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pilot_agent.containers.store.store import Store
from tests.probes.servers import TLS

ROOT = Path(__file__).resolve().parents[3]
SIF = b"#!/usr/bin/env run-singularity\n\0" + b"SIF_MAGIC\0" + b"01\0" + bytes(range(256)) * 2000
DIGEST = "sha256:" + hashlib.sha256(SIF).hexdigest()
ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "SSL_CERT_FILE": str(TLS / "ca.pem")}

# Plays the runtime for what no test can do with a real one. The last two words are target and source.
RUNTIME = r"""#!/bin/sh
echo "$*" >> {log}
env > {log}.env
for word in "$@"; do target=$source; source=$word; done
case $source in
*hanging*) echo $$ > {log}.pid; sleep 300 & echo $! > {log}.child; wait;;
*missing*) echo 'FATAL:   error fetching image: GET https://r/v2/x: MANIFEST_UNKNOWN: manifest unknown' >&2; exit 255;;
*full*) echo 'FATAL:   packer failed to pack: write /x: no space left on device' >&2; exit 255;;
*odd*) echo 'FATAL:   something that nobody knows' >&2; exit 255;;
*nothing*) exit 0;;
*page*) echo '<html>' > "$target"; exit 0;;
esac
case $* in
*--sandbox*)
    mkdir -p "$target/etc" "$target/closed" && ln -s /etc/passwd "$target/link"
    echo x > "$target/etc/passwd" && echo y > "$target/closed/file" && chmod 0500 "$target/closed";;
*) cat {image} > "$target";;
esac
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The running server; ``requests`` are the lines that it wrote."""

    port: int
    log: Path

    def url(self, name: str) -> str:
        """The address of one of its paths."""
        return f"https://localhost:{self.port}/{name}"

    @property
    def requests(self) -> list[str]:
        """Path and range of every request."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def go(self) -> None:
        """Let the slow path go on."""
        self.log.with_name(self.log.name + ".go").touch()


@contextlib.contextmanager
def https_server(directory: Path, certificate: str = "good", image: bytes = SIF) -> Iterator[Server]:
    """A server of its own, with its files in ``directory``."""
    (directory / "published.sif").write_bytes(image)
    log = directory / "requests"
    words = [sys.executable, "-m", "tests.containers.store.https_server"]
    words += [certificate, str(directory / "published.sif"), str(log)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    with process:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), log)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The shell script and what it was called with."""

    path: Path

    @property
    def log(self) -> Path:
        """One line for each call."""
        return self.path.with_name("calls")

    @property
    def calls(self) -> list[str]:
        """The command lines."""
        return self.log.read_text().splitlines() if self.log.exists() else []


def make_runtime(directory: Path) -> Runtime:
    """The script in ``directory``."""
    (directory / "pulled.sif").write_bytes(SIF)
    runtime = Runtime(directory / "apptainer")
    text = RUNTIME.replace("{log}", str(runtime.log)).replace("{image}", str(directory / "pulled.sif"))
    runtime.path.write_text(text)
    runtime.path.chmod(0o755)
    return runtime


def make_store(directory: Path, runtime: str = "/bin/false", **options: object) -> Store:
    """The store ``images`` in ``directory``."""
    chosen: dict[str, object] = {"environment": ENVIRONMENT, "stall_seconds": 20.0, **options}
    return Store(str(directory / "images"), runtime=runtime, **chosen)  # type: ignore[arg-type]


def left(store: Store) -> list[str]:
    """What lies in the store beside whole images and locks."""
    return sorted(os.listdir(os.path.join(store.directory, "partial")))
