# shellcheck shell=bash
# What every script shares: where the repository is, how we speak, how PostgreSQL's binaries are found.
# Sourced, never run.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# A cargo that rustup put into the home folder is found even in a shell that has not read its profile.
if ! command -v cargo >/dev/null && [[ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]]; then
  PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

say() { printf 'nova: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# at_least FOUND WANTED: whether a dotted version is WANTED or newer, by its first two numbers.
at_least() {
  local found_major found_minor wanted_major wanted_minor
  IFS=. read -r found_major found_minor _ <<<"$1.0"
  IFS=. read -r wanted_major wanted_minor _ <<<"$2.0"
  [[ $found_major =~ ^[0-9]+$ && $found_minor =~ ^[0-9]+$ ]] || return 1
  ((found_major > wanted_major || (found_major == wanted_major && found_minor >= wanted_minor)))
}

# version_of COMMAND...: the first dotted number that `COMMAND... --version` prints, or nothing.
version_of() {
  local text
  text="$("$@" --version 2>/dev/null)" || return 0
  [[ $text =~ [0-9]+(\.[0-9]+)+ ]] && printf '%s' "${BASH_REMATCH[0]}"
  return 0
}

# postgres_bin: prints the folder with the newest server binaries (14 or newer), or fails.
# Distributions keep them out of PATH, so the usual folders are looked through as well.
postgres_bin() {
  local folder version best='' best_version=0
  local -a folders
  IFS=: read -r -a folders <<<"${NOVA_POSTGRES_BIN_DIR:-}:$PATH"
  shopt -s nullglob
  folders+=(/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* /usr/lib/postgresql*/bin
    /usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin)
  shopt -u nullglob
  for folder in "${folders[@]}"; do
    [[ -x $folder/postgres && -x $folder/initdb && -x $folder/pg_ctl ]] || continue
    version="$(version_of "$folder/postgres")"
    if at_least "${version:-0}" 14 && ! at_least "$best_version" "$version"; then
      best="$folder" best_version="$version"
    fi
  done
  [[ -n $best ]] && printf '%s' "$best"
}

# timed NAME COMMAND...: runs a step, says how long it took, and remembers that for `timings`.
STEP_TIMES=()
timed() {
  local name="$1" started=$SECONDS
  shift
  say "── $name"
  if ! "$@"; then
    timings
    die "failed: $name (after $((SECONDS - started)) s)"
  fi
  STEP_TIMES+=("$(printf '%5d s  %s' "$((SECONDS - started))" "$name")")
}
timings() {
  local line
  for line in "${STEP_TIMES[@]}"; do say "$line"; done
  say "$(printf '%5d s  in all' "$SECONDS")"
}

# start_engine ARGUMENT...: starts the release engine and returns when it is ready; ENGINE_PID is its process, HTTP its
# address and RTMP that of its door for publishers. The engine's logs go to standard error. `stop_engine` asks it to leave and waits.
ENGINE_PID=''
# shellcheck disable=SC2034 # for those who call us
HTTP='' RTMP=''
start_engine() {
  local line
  exec {ENGINE_OUT}< <(exec target/release/nova serve "$@")
  ENGINE_PID=$!
  # The line comes or the engine ends, and with it the pipe.
  while IFS= read -r line <&"$ENGINE_OUT"; do
    if [[ $line == *'"ready":true'* && $line =~ \"http\":\"([^\"]+)\" ]]; then
      # shellcheck disable=SC2034 # for those who call us
      HTTP="http://${BASH_REMATCH[1]}"
      # shellcheck disable=SC2034 # for those who call us
      [[ $line =~ \"rtmp\":\"([^\"]+)\" ]] && RTMP="${BASH_REMATCH[1]}"
      return 0
    fi
  done
  die 'the engine ended before it was ready; its own words are above'
}
stop_engine() {
  [[ -n $ENGINE_PID ]] || return 0
  kill -TERM "$ENGINE_PID" 2>/dev/null || true
  wait "$ENGINE_PID" || true
  exec {ENGINE_OUT}<&-
  ENGINE_PID=''
}

# start_throwaway_postgres FOLDER trust|scram LISTEN: a cluster in FOLDER/cluster that keeps nothing safe, its socket in
# FOLDER/socket, its superuser `nova` (with `scram`: password `nova`), reached over TCP on LISTEN (an option string) too.
# It runs as another user when we are root, because PostgreSQL refuses root. `stop_throwaway_postgres` ends it.
throwaway=''
throwaway_as=()
start_throwaway_postgres() {
  local folder="$1" auth="$2" listen="$3" bin user=nobody
  bin="$(postgres_bin)" || die 'PostgreSQL 14 or newer is not installed: run scripts/install run'
  mkdir "$folder/cluster" "$folder/socket"
  printf 'nova\n' >"$folder/password"
  if [[ $(id -u) == 0 ]]; then
    if id postgres >/dev/null 2>&1; then user=postgres; fi
    throwaway_as=(runuser -u "$user" --)
    chmod 711 "$folder"
    chown "$user" "$folder/cluster" "$folder/socket" "$folder/password"
  fi
  local how=(-A trust)
  [[ $auth == trust ]] || how=(-A scram-sha-256 --pwfile="$folder/password")
  (cd "$folder" && "${throwaway_as[@]}" "$bin/initdb" -D "$folder/cluster" -U nova "${how[@]}" -E UTF8 --locale=C -N) \
    >"$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log" >&2; die 'the throw-away PostgreSQL could not be set up'; }
  (cd "$folder" && "${throwaway_as[@]}" "$bin/pg_ctl" -D "$folder/cluster" -l "$folder/cluster/log" -w start \
    -o "-c listen_addresses='' $listen -c unix_socket_directories='$folder/socket' -c fsync=off -c max_connections=400") \
    >/dev/null || { cat "$folder/cluster/log" >&2; die 'the throw-away PostgreSQL could not be started'; }
  throwaway="$folder"
}
stop_throwaway_postgres() {
  [[ -n $throwaway ]] || return 0
  (cd "$throwaway" && "${throwaway_as[@]}" "$(postgres_bin)/pg_ctl" -D "$throwaway/cluster" -m immediate stop) \
    >/dev/null 2>&1 || true
  throwaway=''
}

# free_port: a TCP port of the loopback interface nobody listens on now.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 20000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      printf '%s' "$port"
      return 0
    fi
  done
}

# pinned_python NAME PINS WHAT: prints a folder below target/ that has Python with the packages of the file PINS, and makes it when it is
# missing. Versions are pinned and the folder is named after them, so another set of versions is another folder.
pinned_python() {
  local folder fresh
  folder="target/python-$1-$(cksum <"$2" | cut -d' ' -f1)"
  if [[ ! -e $folder/whole ]]; then
    say "installing $3 into $folder"
    [[ ${NOVA_NO_INSTALL:-} != 1 ]] || die "$3 is missing, and NOVA_NO_INSTALL=1 forbids installing"
    mkdir -p target
    fresh="$(mktemp -d "$folder.XXXXXX")"
    # Programs in bin/ know their first address, so they are run through python, which does not.
    if python3 -m venv "$fresh" && "$fresh/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$2" >&2; then
      touch "$fresh/whole"
    else
      rm -rf "$fresh"
      die "$3 could not be installed: python3-venv must be there, and the package index be reached"
    fi
    # What a half-finished installation left is never taken for a whole one; another run may have been first.
    mv -T "$fresh" "$folder" 2>/dev/null || rm -rf "$fresh"
    [[ -e $folder/whole ]] || die "$folder is in the way: take it away"
  fi
  printf '%s' "$folder"
}
