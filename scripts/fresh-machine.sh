#!/usr/bin/env bash
# Proves what README.md promises of a fresh machine: in an empty Debian made by debootstrap, with only Go, git, make and
# root certificates, a fresh clone of HEAD must `make run` and `make test`. Prints how long each took. Root only.
#
#   scripts/fresh-machine.sh            everything
#   scripts/fresh-machine.sh run        without make test
#
# MIRROR and SUITE choose the Debian (default: what this machine's apt uses), KEEP=1 leaves the folder for a look.
# Go's proxy settings, HTTP proxies and root certificates are those of this machine.
set -euo pipefail

# The mirror that this machine's apt uses for its own release: of files in the old and in the new form.
host_mirror() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -n 's/^deb  *\(\[[^]]*\] *\)\?\([^ ]*\)  *'"$1"' .*/\2/p' | head -n 1
  awk -v suite="$1" '
    function flush() { if (match(" " suites " ", " " suite " ")) print uri; uri = suites = "" }
    /^URIs:/ { uri = $2 } /^Suites:/ { $1 = ""; suites = $0 } /^$/ { flush() } ENDFILE { flush() }
  ' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1
}

outside() {
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  . scripts/lib.sh
  [ "$(id -u)" -eq 0 ] || { echo "fresh-machine.sh: must be root, to make and enter a Debian folder" >&2; exit 2; }
  local suite mirror debian started=$SECONDS
  suite=${SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
  mirror=${MIRROR:-$(host_mirror "$suite" | head -n 1)}
  [ -n "$mirror" ] || { echo "fresh-machine.sh: found no mirror for $suite in apt's sources; set MIRROR" >&2; exit 2; }
  command -v debootstrap >/dev/null || install_packages "a fresh Debian is made by debootstrap" debootstrap

  debian=$(mktemp -d "${TMPDIR:-/var/tmp}/certloom-fresh.XXXXXX")
  chmod 755 "$debian" # it becomes "/", which everybody must be able to enter
  if [ -z "${KEEP-}" ]; then
    trap 'rm -rf --one-file-system "'"$debian"'"' EXIT
  else
    say "keeping $debian"
  fi
  trap 'exit 130' INT TERM

  say "debootstrap $suite into $debian"
  debootstrap --variant=minbase --include=ca-certificates,git,make "$suite" "$debian" "$mirror" >"$debian.log" 2>&1 ||
    { tail -n 20 "$debian.log" >&2; rm -f "$debian.log"; exit 1; }
  rm -f "$debian.log"
  echo "done, $((SECONDS - started)) s"

  # What this machine trusts and how it reaches mirrors, and nothing else of it.
  cp /etc/ssl/certs/ca-certificates.crt "$debian/etc/ssl/certs/ca-certificates.crt"
  cp -L /etc/resolv.conf /etc/hosts "$debian/etc/"
  apt-config dump | grep -E '^Acquire::(http|https|ftp|Check-Valid-Until|Check-Date|Retries)' >"$debian/etc/apt/apt.conf.d/90host" || true
  cp -a "$(go env GOROOT)" "$debian/usr/local/go"
  git bundle create -q "$debian/certloom.bundle" HEAD
  cp scripts/fresh-machine.sh "$debian/fresh-machine.sh"

  local keep=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin
    HOME=/root/home LANG=C.UTF-8 "GOPROXY=$(go env GOPROXY)" "GOSUMDB=$(go env GOSUMDB)" "GONOSUMDB=$(go env GONOSUMDB)")
  local name
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [ -z "${!name-}" ] || keep+=("$name=${!name}")
  done
  # Namespaces of its own: the mounts and all processes end with it.
  unshare --mount --pid --fork --kill-child -- bash -c '
    set -e
    debian=$1; shift
    mount -t proc proc "$debian/proc"
    mount --rbind /dev "$debian/dev"
    mount -t tmpfs tmpfs "$debian/dev/shm"
    exec env -i "$@"
  ' - "$debian" "${keep[@]}" chroot "$debian" bash /fresh-machine.sh --inside "${1:-all}" </dev/null
}

inside() {
  say() { printf '\n== %s\n' "$*"; }
  mkdir -p "$HOME"
  cd "$HOME"
  [ -z "$(ls -A)" ] || { echo "HOME is not empty" >&2; exit 1; }
  say "fresh clone"
  git -c advice.detachedHead=false clone -q /certloom.bundle certloom
  cd certloom
  git log -1 --format='%h %s'

  say "make run"
  local started=$SECONDS
  setsid make run >"$HOME/run.log" 2>&1 &
  local group=$!
  # The binary's time of change is the end of the build; the log's is that of the last line.
  until grep -q 'https://localhost:8443' "$HOME/run.log"; do
    kill -0 "$group" 2>/dev/null || { cat "$HOME/run.log"; echo "make run ended"; exit 1; }
    [ $((SECONDS - started)) -lt 1200 ] || { cat "$HOME/run.log"; echo "no console address after 20 minutes"; exit 1; }
    sleep 0.05
  done
  local now built
  now=$(date +%s%N)
  built=$(date -r bin/certloom +%s%N)
  cat "$HOME/run.log"
  echo "console address printed $(((now - built) / 1000000)) ms after the end of the build, $((SECONDS - started)) s after make run"
  [ $(((now - built) / 1000000)) -le 5000 ] || { echo "later than 5 s"; exit 1; }
  kill -INT -- "-$group"
  wait "$group" || true
  ! grep -lx certloom /proc/[0-9]*/comm 2>/dev/null || { echo "certloom still runs"; exit 1; }

  [ "$1" = all ] || return 0
  say "make test"
  started=$SECONDS
  make test
  echo "make test took $((SECONDS - started)) s"
}

if [ "${1-}" = --inside ]; then
  inside "$2"
else
  outside "$@"
fi
