"""A user's job of the figure `triton`: asks a server over gRPC for as long as it is told, again and again.

Arguments: the port on 127.0.0.1 at which `inference_rounds.py` tells which server to ask next. The standard library,
NumPy and Triton's client are all that it needs.
"""

import json
import socket
import sys
import time
from typing import Any

import numpy as np  # type: ignore[import-not-found,unused-ignore]
import tritonclient.grpc as triton  # type: ignore[import-not-found,unused-ignore]

MODEL, INPUT, OUTPUT = "scale", "INPUT", "OUTPUT"
SCALE, OFFSET = 3.0, 1.0
VALUES = 256
PATIENCE_SECONDS = 300.0


def ask(client: Any, seconds: float) -> dict[str, float]:
    """One question after the other; how many were answered rightly, in how many seconds. Raises what a client does."""
    values = np.arange(VALUES, dtype=np.float32)
    expected = values * SCALE + OFFSET
    tensor = triton.InferInput(INPUT, [VALUES], "FP32")
    tensor.set_data_from_numpy(values)
    answers = 0
    began = now = time.monotonic()
    while now - began < seconds:
        answer = client.infer(MODEL, [tensor]).as_numpy(OUTPUT)
        if not np.array_equal(answer, expected):
            raise ValueError(f"a wrong answer: {answer}")
        answers += 1
        now = time.monotonic()
    return {"answers": answers, "seconds": now - began}


def main(port: int) -> int:
    """Do what is told until the other side hangs up."""
    clients: dict[str, Any] = {}
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as connection,
        connection.makefile("rw") as told,
    ):
        for line in told:
            order = json.loads(line)
            server = order["server"]
            # A connection to each server is kept, as an application keeps its own.
            client = clients.setdefault(server, triton.InferenceServerClient(server))
            try:
                said: dict[str, Any] = ask(client, order["seconds"])
            except Exception as error:  # noqa: BLE001 - whatever a client raises, the figure must not be made of it
                said = {"problem": f"{type(error).__name__}: {error}"}
            told.write(json.dumps(said) + "\n")
            told.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
