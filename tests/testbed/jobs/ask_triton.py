"""A user's job: asks the node's Triton server again and again, checks each answer, and tries again while it is away.

Arguments: number of answers, and the job's own number: the first goes on until the server was away once. Its last line
is JSON.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np  # type: ignore[import-not-found,unused-ignore]
import tritonclient.grpc  # type: ignore[import-not-found,unused-ignore]
import tritonclient.http  # type: ignore[import-not-found,unused-ignore]

SCALE, OFFSET = 3.0, 1.0
PATIENCE_SECONDS = 150.0
PAUSE_SECONDS = 0.05
REQUEST_SECONDS = 10.0


def ask(library: Any, client: Any, values: Any) -> Any:
    """One inference over HTTP or gRPC; the answer."""
    tensor = library.InferInput("INPUT", [len(values)], "FP32")
    tensor.set_data_from_numpy(values)
    return client.infer("scale", [tensor]).as_numpy("OUTPUT")


def clients() -> tuple[tuple[Any, Any], ...]:
    """Both clients, as a user makes them from what the pilot tells."""
    grpc = f"{os.environ['SONIC_LOCAL_BALANCER_HOST']}:{os.environ['SONIC_LOCAL_BALANCER_PORT']}"
    http = os.environ["TRITON_HTTP_URL"]
    options = {"connection_timeout": REQUEST_SECONDS, "network_timeout": REQUEST_SECONDS}
    return (
        (tritonclient.http, tritonclient.http.InferenceServerClient(http, **options)),
        (tritonclient.grpc, tritonclient.grpc.InferenceServerClient(grpc)),
    )


def main(wanted: int, until_away: bool) -> int:
    """Exit status 0 when all answers were right."""
    both = clients()
    end = time.monotonic() + PATIENCE_SECONDS
    answers = retries = 0
    longest = since = 0.0
    while answers < wanted or (until_away and not retries):
        if time.monotonic() > end:
            print(json.dumps({"answers": answers, "retries": retries, "problem": "no more patience"}))
            return 1
        library, client = both[answers % len(both)]
        values = np.random.default_rng().random(16, dtype=np.float32)
        try:
            answer = ask(library, client, values)
        except Exception as error:  # noqa: BLE001 - whatever a client raises while there is no server
            print(f"again, as {type(error).__name__}: {error}", file=sys.stderr)
            since = since or time.monotonic()
            retries += 1
            time.sleep(PAUSE_SECONDS)
            continue
        if not np.allclose(answer, values * SCALE + OFFSET):
            print(json.dumps({"answers": answers, "retries": retries, "problem": f"{values} gave {answer}"}))
            return 2
        longest = max(longest, time.monotonic() - since) if since else longest
        since = 0.0
        answers += 1
        if until_away and answers == 1:
            with open("began", "w", encoding="ascii"):
                pass
        time.sleep(PAUSE_SECONDS)
    print(json.dumps({"answers": answers, "retries": retries, "away_seconds": round(longest, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2] == "0"))
