#!/usr/bin/env bash
# Installs what building and testing need: Debian packages with apt (as root), Python packages with pip in .venv.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(mmdebstrap iproute2 util-linux squashfs-tools fuse3 uidmap debian-archive-keyring ca-certificates
          python3 python3-venv shellcheck procps xz-utils chromium-headless-shell gcc libc6-dev
          libfuse3-dev fio dash busybox-static qemu-user-static)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if ((${#missing[@]})); then
    echo "setup: installing Debian packages: ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi

python=""
for candidate in python3.11 python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    echo "setup: Python 3.11 or newer with venv is needed and was not found; install python3 and python3-venv" >&2
    exit 1
fi
if [[ ! -x .venv/bin/python ]] || ! .venv/bin/python -c 'import sys' 2>/dev/null; then
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
echo "setup: installing Python packages with pip"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[server,dev]'
