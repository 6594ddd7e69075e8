# shellcheck shell=bash disable=SC2034 # The variables are for those who source it.
# What prerequisites, demo and test share; sourced, never run. `dir` is the caller's own scratch folder.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
spawned=()

# make_scratch NAME: an own folder for this run. Credentials pass through it; mktemp lets nobody else read it.
make_scratch() { dir=$(mktemp -d "${TMPDIR:-/tmp}/oauth-operator-$1.XXXXXX"); }

# spawn NAME COMMAND…: in the background, output to $dir/NAME.log. It gets a process group of its own, so that Ctrl-C at
# the terminal does not reach it: whoever spawned it ends it, in good order.
spawn() {
  local name=$1
  shift
  # Here already, for the child may open it only after the caller has looked.
  : >"$dir/$name.log"
  set -m
  "$@" >"$dir/$name.log" 2>&1 </dev/null &
  set +m
  printf -v "pid_$name" %s "$!"
  spawned+=("$name")
}

pid_of() { local variable=pid_$1; echo "${!variable-}"; }

# runs NAME
runs() { kill -0 "$(pid_of "$1")" 2>/dev/null; }

# result NAME: waits for it and returns its exit code.
result() { wait "$(pid_of "$1")"; }

# end NAME: asks its whole process group for ten seconds, then kills it.
end() {
  local tick pid
  pid=$(pid_of "$1")
  [[ -n $pid ]] || return 0
  kill -TERM -- "-$pid" 2>/dev/null || true
  for ((tick = 0; tick < 100; tick++)); do
    kill -0 -- "-$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  printf -v "pid_$1" %s ''
}

# The last one spawned is the first to end.
end_all() {
  local i
  for ((i = ${#spawned[@]} - 1; i >= 0; i--)); do end "${spawned[i]}"; done
}

# keep_logs: all that is left of $dir after a failure. Keys, tokens and kubeconfigs are in the rest.
keep_logs() {
  find "$dir" -type f ! -name '*.log' -delete
  rm -f "$dir"/*/audit.log
  find "$dir" -mindepth 1 -type d -empty -delete
}
