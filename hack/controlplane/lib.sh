# shellcheck shell=bash disable=SC2034 # The variables are for those who source it.
# What build, up and down share; sourced, never run.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$(cd "$here/../.." && pwd)/target/tools

# In the order in which they start; they stop in the reverse one.
components=(etcd kube-apiserver kube-controller-manager)

say() { printf 'controlplane: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

[[ $(uname -s) == Linux ]] || die "runs on Linux only, this is $(uname -s)"

# need TOOL REMEDY
need() { command -v "$1" >/dev/null || die "no '$1' on PATH: $2"; }
need flock "install util-linux"

# lock FILE: one at a time; whoever comes meanwhile waits. Held until this shell ends.
lock() {
  exec {lock_fd}>>"$1"
  until flock --wait 15 "$lock_fd"; do say "waiting for another run to finish ($SECONDS s): it holds $1"; done
}

# The mark of a folder that `up` made, and its lock. No folder without it is ever written to or cleaned.
mark=.controlplane

# is_running DIR NAME: the pid file's process is still that component of that folder, not a later user of its number.
is_running() {
  local pid argv
  pid=$(cat "$1/$2.pid" 2>/dev/null) || return 1
  { mapfile -d '' -t argv <"/proc/$pid/cmdline"; } 2>/dev/null || return 1
  [[ ${argv[0]-} == */"$2" && ${argv[*]} == *"=$1/"* ]]
}

# stop DIR NAME: asks for five seconds, then kills.
stop() {
  local pid tick
  if is_running "$1" "$2"; then
    pid=$(cat "$1/$2.pid")
    kill -TERM "$pid" 2>/dev/null || true
    for ((tick = 0; tick < 50; tick++)); do is_running "$1" "$2" || break; sleep 0.1; done
    ! is_running "$1" "$2" || kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$1/$2.pid"
}

# stop_all DIR: etcd last, so that the others can still say goodbye to it.
stop_all() {
  local i
  for ((i = ${#components[@]} - 1; i >= 0; i--)); do stop "$1" "${components[i]}"; done
}
