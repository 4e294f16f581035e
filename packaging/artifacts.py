"""Sign and publish what pilots fetch (`python packaging/artifacts.py`).

The repository is that of The Update Framework. It lives where the operator
works, not on the web server: `publish` copies what is complete to the directory
that is served. Keys lie elsewhere, those of `root` and `targets` offline; a
change that lacks signatures waits as a draft in REPOSITORY/drafts, which may be
carried to whoever signs it.

make keys of all four roles, and the repository:
  artifacts.py init REPO --keys KEYS
make a key; send the .json, keep the .pem:
  artifacts.py key KEYS atlas
let a VO sign, and sign for it:
  artifacts.py delegate REPO atlas --public atlas-1f2e.json --keys KEYS
  artifacts.py add REPO plugin atlas_pilot-1.0-py3-none-any.whl \\
      --vo atlas --keys ATLAS_KEYS
add the signatures of these keys to a draft:
  artifacts.py sign REPO targets --keys /media/stick
also every few hours, for a timestamp lives for twelve:
  artifacts.py publish REPO /srv/www/artifacts --keys KEYS
  artifacts.py rotate REPO timestamp --new new.json --old 3f2a91c0 --keys KEYS
  artifacts.py show REPO
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from artifact_repository.keys import LETTERS, KeyRing, make_key, read_public_keys
from artifact_repository.publishing import artifacts, publish, write_bundle
from artifact_repository.roles import (
    KINDS,
    Ceremony,
    accept,
    add,
    delegate,
    initialise,
    remove,
    require_new,
    revoke,
    rotate,
    sign,
)
from artifact_repository.store import TOP_LEVEL, Store
from payload.console import BuildError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command; 0, or 1 with what was found, what was needed and what to change."""
    options = _parser().parse_args(arguments)
    try:
        password = options.password_file.read_bytes().strip() if options.password_file else None
        if options.command == "key":
            key, path = make_key(options.directory, options.role, password)
            print(f"{key.keyid}  {path}")
            return 0
        if options.command == "init":
            return _init(options, password)
        store = Store(options.repository, KeyRing(tuple(options.keys), password).signers())
        if not store.exists():
            raise BuildError(f"{options.repository} is no repository; `init` makes one")
        return _change(store, options)
    except OSError as error:
        print(f"artifacts: {error.filename}: {error.strerror}", file=sys.stderr)
    except BuildError as error:
        print(f"artifacts: {error}", file=sys.stderr)
    return 1


def _init(options: argparse.Namespace, password: bytes | None) -> int:
    """Make a repository, with new keys for the roles that are given none."""
    require_new(Store(options.repository))
    given = _by_role(options.public)
    thresholds = dict.fromkeys(TOP_LEVEL, 1) | _numbers(options.threshold)
    directory = options.keys[0] if options.keys else None
    keys = {}
    for role in TOP_LEVEL:
        keys[role] = read_public_keys(given.get(role, []))
        if not keys[role]:
            if directory is None:
                raise BuildError(f"{role} has no key: --keys DIR makes one there, or --public {role}=FILE names one")
            keys[role] = [make_key(directory, role, password)[0] for _ in range(thresholds[role])]
    initialise(Store(options.repository, KeyRing(tuple(options.keys), password).signers()), Ceremony(keys, thresholds))
    return _show(Store(options.repository), as_json=False)


def _change(store: Store, options: argparse.Namespace) -> int:
    match options.command:
        case "delegate":
            delegate(store, options.vo, read_public_keys(options.public), options.threshold)
        case "revoke":
            revoke(store, options.vo)
        case "add":
            for file in options.files:
                print(add(store, file, options.kind, vo=options.vo, name=options.name, replace=options.replace))
        case "remove":
            remove(store, options.artifact)
        case "rotate":
            rotate(store, options.role, read_public_keys(options.new), options.old, options.threshold)
        case "sign":
            sign(store, options.role)
        case "accept":
            accept(store, options.role, options.file)
        case "publish":
            done = publish(store, options.destination)
            print(f"{done.artifacts} artifacts; root {done.root}, snapshot {done.snapshot}, timestamp {done.timestamp}")
            print(f"pilots believe it until {done.expires:%Y-%m-%d %H:%M} UTC")
        case "bundle":
            write_bundle(store, options.file)
        case _:
            return _show(store, as_json=options.json)
    return _tell_waiting(store)


def _tell_waiting(store: Store) -> int:
    """Say what lacks signatures; that is no failure."""
    for standing in map(store.standing, store.roles()):
        if standing.draft_version is not None:
            whose = ", ".join(standing.unsigned)
            print(f"{standing.role} {standing.draft_version} waits for {standing.missing} signatures of: {whose}")
    return 0


def _show(store: Store, *, as_json: bool) -> int:
    standings = [store.standing(role) for role in store.roles()]
    signed = sorted((target.path, role, target.length) for role, target in artifacts(store))
    if as_json:
        told = {
            "roles": [
                {
                    "role": one.role,
                    "version": one.version,
                    "expires": one.expires.isoformat() if one.expires else None,
                    "draft": one.draft_version,
                    "missing": one.missing,
                    "unsigned": list(one.unsigned),
                }
                for one in standings
            ],
            "artifacts": [{"name": name, "signed_by": role, "bytes": size} for name, role, size in signed],
        }
        print(json.dumps(told, indent=1))
        return 0
    print(f"{'role':16} {'version':>7}  {'expires (UTC)':16}  waiting")
    for one in standings:
        until = one.expires.strftime("%Y-%m-%d %H:%M") if one.expires else "-"
        waiting = f"version {one.draft_version} for {', '.join(one.unsigned)}" if one.draft_version else ""
        print(f"{one.role:16} {one.version:>7}  {until:16}  {waiting}".rstrip())
    for name, role, size in signed:
        print(f"  {name}  {size} bytes, signed by {role}")
    return 0


def _by_role(words: Sequence[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for word in words:
        role, _, path = word.partition("=")
        if role not in TOP_LEVEL or not path:
            raise BuildError(f"--public {word}: a role and a file are needed, such as root=root-{'0' * LETTERS}.json")
        found.setdefault(role, []).append(Path(path))
    return found


def _numbers(words: Sequence[str]) -> dict[str, int]:
    found = {}
    for word in words:
        role, _, number = word.partition("=")
        if role not in TOP_LEVEL or not number.isdecimal() or int(number) < 1:
            raise BuildError(f"--threshold {word}: a role and a number are needed, such as root=2")
        found[role] = int(number)
    return found


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n")
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=rest, formatter_class=formatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--keys", type=Path, action="append", default=[], help="a directory or file of private keys")
    common.add_argument("--password-file", type=Path, help="the password of encrypted keys, and of those that are made")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, words: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=words, description=words, parents=[common])
        if name != "key":
            made.add_argument("repository", type=Path)
        return made

    made = command("key", "make a key")
    made.add_argument("directory", type=Path)
    made.add_argument("role", help="for whom; only the file's name says so")
    made = command("init", "make a repository, and the keys that are not given")
    made.add_argument("--public", action="append", default=[], metavar="ROLE=FILE", help="a key that exists already")
    made.add_argument("--threshold", action="append", default=[], metavar="ROLE=N", help="signatures needed (1)")
    made = command("delegate", "let a VO sign its plugins, configuration and images")
    made.add_argument("vo")
    made.add_argument("--public", type=Path, action="append", required=True, help="the VO's public key")
    made.add_argument("--threshold", type=int, default=1, help="signatures needed (%(default)s)")
    made = command("revoke", "take a VO's role away")
    made.add_argument("vo")
    made = command("add", "sign an artifact")
    made.add_argument("kind", choices=KINDS)
    made.add_argument("files", type=Path, nargs="+", metavar="file")
    made.add_argument("--vo", help="the VO that signs it (default: the factory, by the role targets)")
    made.add_argument("--name", help="another name than the file's")
    made.add_argument("--replace", action="store_true", help="let a name get another content, as an index.json does")
    made = command("remove", "sign an artifact no longer")
    made.add_argument("artifact")
    made = command("rotate", "give a role other keys")
    made.add_argument("role")
    made.add_argument("--new", type=Path, action="append", default=[], help="a public key that is added")
    made.add_argument("--old", action="append", default=[], metavar="KEYID", help="beginning of a key that goes away")
    made.add_argument("--threshold", type=int, help="signatures needed from now on")
    made = command("sign", "add signatures to what waits")
    made.add_argument("role")
    made = command("accept", "take over the signatures on a copy of what waits")
    made.add_argument("role")
    made.add_argument("file", type=Path)
    made = command("publish", "sign a timestamp and make everything visible")
    made.add_argument("destination", type=Path)
    made = command("bundle", "write the root of trust and the floor that a payload carries")
    made.add_argument("file", type=Path)
    made = command("show", "roles, what waits, and what is signed")
    made.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
