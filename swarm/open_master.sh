#!/bin/sh
# open_master HOME HOST PORT USER: open the connection to a host that all others share.
#
# ssh runs this script before each connection. A dozen start at once, but a server refuses some
# while ten have not logged in yet. So the first opens the shared connection, and the others wait.
# A server allows ten sessions on a connection; further ones connect themselves, one by one.
# The connection that follows reports any error.
set -u
home=$1 host=$2 port=$3 user=$4
[ -z "${DASK_SWARM_FIRST:-}" ] || exit 0
export DASK_SWARM_FIRST=1
exec >/dev/null 2>&1

to_host() { ssh -F swarm/ssh_config -l "$user" -p "$port" "$@" -- "$host"; }
is_open() { to_host -O check; }

(umask 077 && mkdir -p "$home/.ssh")
lock=$home/.ssh/dask-$user-$host-$port.lock
gate=$home/.ssh/dask-$user-$host-$port.gate

# Remove what a killed process has left.
for folder in "$lock" "$gate"; do
  [ -z "$(find "$folder" -prune -mmin +1)" ] || rmdir "$folder"
done

# Waits at most 10 s.
await() {
  tries=0
  until "$@" || [ "$tries" -eq 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
}

open_first() {
  trap 'rmdir "$lock"' EXIT
  trap 'exit 1' HUP INT TERM
  is_open || to_host -f -N -o ControlMaster=yes -o ControlPersist=60
}

is_open || if mkdir "$lock"; then (open_first); else await test ! -d "$lock"; fi
await mkdir "$gate"
(sleep 0.1 && rmdir "$gate") &
