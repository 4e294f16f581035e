"""Gives a built payload what pilots believe (`python packaging/add_bundle.py`).

The bundle is whose signatures are believed (--trust), certificate authorities
(--authorities) and configuration (--config). Pilots that are started from such
a payload use it without being told, and the digest that the launcher checks
covers it. The payload is not built anew: what was tested is what is sent.

  add_bundle.py build/pilot.pyz build/pilot.sh --output own \\
      --trust trust.json --authorities ca.pem --config factory=factory.yaml
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from artifact_repository.publishing import check_bundle
from build_payload import write
from payload.bundle import with_bundle
from payload.console import BuildError

from pilot_agent.config import load_config
from pilot_agent.config_read import read_layer
from pilot_agent.model import PilotError
from pilot_agent.trust.bundled import AUTHORITIES, LAYERS, LIMIT_BYTES, TRUST, configuration


def main(arguments: Sequence[str] | None = None) -> int:
    """Write each payload with the bundle in it; 0, or 1 with what was found, what was needed and what to change."""
    options = _parser().parse_args(arguments)
    try:
        files = bundle_files(options.trust, options.authorities, options.config)
        made = [(path, with_bundle(path.read_bytes(), files, str(path))) for path in options.payloads]
        for path, payload in made:
            target = options.output / path.name
            if target.exists() and target.samefile(path):
                raise BuildError(
                    f"{path} would be replaced, and no other bundle could be added then; --output elsewhere"
                )
            write(target, payload)
    except OSError as error:
        print(f"bundle: {error.filename}: {error.strerror}", file=sys.stderr)
    except BuildError as error:
        print(f"bundle: {error}", file=sys.stderr)
    except PilotError as error:
        print(f"bundle: {error.failure.message} ({error.failure.hint})", file=sys.stderr)
    else:
        return 0
    return 1


def bundle_files(trust: Path | None, authorities: Path | None, configs: Sequence[str]) -> dict[str, bytes]:
    """The bundle's files by name, each proven to be what a pilot can use. BuildError, ``PilotError``, ``OSError``."""
    files = {}
    if trust is not None:
        files[TRUST] = trust.read_bytes()
        check_bundle(files[TRUST], str(trust))
    if authorities is not None:
        files[AUTHORITIES] = authorities.read_bytes()
        _check_authorities(files[AUTHORITIES], str(authorities))
    layers = [_layer(text) for text in configs]
    load_config(read_layer(layer, path) for layer, path in layers)
    for layer, path in layers:
        name = configuration(layer)
        if name in files:
            raise BuildError(f"--config {layer}={path}: the layer {layer} is given twice; put both into one file")
        # JSON, for which a pilot needs to load nothing.
        document = read_layer(layer, path).document
        files[name] = (json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n").encode()
    if not files:
        raise BuildError("a bundle holds something: give --trust, --authorities or --config")
    for name, content in files.items():
        if len(content) > LIMIT_BYTES:
            raise BuildError(f"{name} has {len(content)} bytes, and pilots read {LIMIT_BYTES} at most")
    return files


def _layer(text: str) -> tuple[str, str]:
    layer, equals, path = text.partition("=")
    if not equals or layer not in LAYERS:
        raise BuildError(f"--config {text}: LAYER=FILE is needed, and LAYER is one of {', '.join(LAYERS)}")
    return layer, path


def _check_authorities(content: bytes, name: str) -> None:
    if b"PRIVATE KEY-----" in content:
        raise BuildError(f"{name} holds a private key, and every job could read it; give the certificates alone")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise BuildError(f"{name} holds no certificates in PEM form ({error})") from error


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n")
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=rest, formatter_class=formatter)
    parser.add_argument("payloads", type=Path, nargs="+", metavar="PAYLOAD", help="pilot.pyz, pilot.sh or both")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the new payloads go")
    parser.add_argument("--trust", type=Path, metavar="FILE", help="what `packaging/artifacts.py bundle` wrote")
    parser.add_argument("--authorities", type=Path, metavar="FILE", help="certificate authorities (PEM)")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="LAYER=FILE",
        help="configuration (YAML or JSON) of the layer factory, entry or vo; once for each",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
