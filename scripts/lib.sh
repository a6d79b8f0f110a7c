# Shared by the scripts beside it; to be sourced. It needs bash with -euo pipefail.

say() { printf '\n== %s\n' "$*"; }

# as_root runs a command as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "this needs root, and there is no sudo: $*" >&2
    return 1
  fi
}

have_compiler() { command -v "${CC:-gcc}" >/dev/null && [ -e /usr/include/stdlib.h ]; }

# install_packages WHY PACKAGE... installs packages of Debian or Ubuntu and says so. Package lists are fetched only
# when the packages cannot be had without.
install_packages() {
  local why=$1
  shift
  if ! command -v apt-get >/dev/null; then
    echo "$why: please install what your system calls: $*" >&2
    return 1
  fi
  say "$why: installing $* with apt-get"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@")
  if ! as_root "${install[@]}" </dev/null >/tmp/certloom-apt.$$ 2>&1; then
    as_root apt-get update -q </dev/null
    as_root "${install[@]}" </dev/null
  fi
  as_root rm -f /tmp/certloom-apt.$$
}

# have_browser installs what the browser tests need where it is missing: Chromium, and npm for the checker of accessibility.
have_browser() {
  local name
  if [ -z "${CERTLOOM_E2E_CHROMIUM-}" ]; then
    for name in chromium chromium-browser google-chrome chrome; do
      ! command -v "$name" >/dev/null || break
    done
    command -v "$name" >/dev/null || install_packages "the browser tests need Chromium" chromium
  fi
  command -v npm >/dev/null || install_packages "the browser tests get axe-core from npm" npm
}

# postgres_bin prints the folder with initdb and pg_ctl, the newest one where there are several.
postgres_bin() {
  local found
  found=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)
  [ -n "$found" ] || found=$(command -v initdb || true)
  [ -n "$found" ] && dirname "$found"
}

# start_postgres starts a PostgreSQL server that lives until this script ends: data and socket in a temporary folder,
# no TCP port, nothing synced to disk. It exports CERTLOOM_TEST_POSTGRES. Where that is set already, nothing is
# started. PostgreSQL refuses to run as root, so root runs it as the user of the package.
start_postgres() {
  if [ -n "${CERTLOOM_TEST_POSTGRES-}" ]; then
    say "using the PostgreSQL that CERTLOOM_TEST_POSTGRES names"
    return
  fi
  if [ -z "$(postgres_bin)" ]; then
    install_packages "the tests need a PostgreSQL server" postgresql-common
    # Debian's package would start a server of its own for good; the tests need only the programs.
    as_root sed -i 's/^#\? *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    install_packages "the tests need a PostgreSQL server" postgresql
  fi
  pg_bin=$(postgres_bin)
  pg_as=()
  pg_dir=$(mktemp -d /tmp/certloom-pg.XXXXXX) # short: a socket's path has at most 107 bytes
  trap stop_postgres EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  if [ "$(id -u)" -eq 0 ]; then
    local user=postgres
    id -u "$user" >/dev/null 2>&1 || user=nobody
    chown "$user" "$pg_dir"
    pg_as=(runuser -u "$user" --)
  fi
  say "starting PostgreSQL $("$pg_bin/postgres" --version | grep -o '[0-9][0-9.]*' | head -n 1) in $pg_dir"
  (
    cd "$pg_dir"
    ${pg_as[@]+"${pg_as[@]}"} "$pg_bin/initdb" -D "$pg_dir/data" -U certloom -A trust -E UTF8 --locale=C --no-sync >"$pg_dir/initdb.log" 2>&1 ||
      { cat "$pg_dir/initdb.log" >&2; exit 1; }
    ${pg_as[@]+"${pg_as[@]}"} "$pg_bin/pg_ctl" start -w -t 60 -s -D "$pg_dir/data" -l "$pg_dir/data/server.log" \
      -o "-k '$pg_dir' -c listen_addresses='' -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=300" </dev/null ||
      { cat "$pg_dir/data/server.log" >&2; exit 1; }
  )
  export CERTLOOM_TEST_POSTGRES="postgres://certloom@/postgres?host=$pg_dir&sslmode=disable"
}

stop_postgres() {
  local status=$?
  trap - EXIT
  if [ -n "${pg_dir-}" ]; then
    if [ -e "$pg_dir/data/postmaster.pid" ]; then
      (cd "$pg_dir" && ${pg_as[@]+"${pg_as[@]}"} "$pg_bin/pg_ctl" stop -s -m immediate -D "$pg_dir/data") || true
    fi
    rm -rf "$pg_dir"
  fi
  exit "$status"
}
