#!/bin/sh
# one_first HOME HOST PORT USER: open the one connection to a host that all others go through.
#
# ssh runs it before each connection. A dozen come at once, while a server turns some away when ten
# have not logged in yet: so one goes first, and the others wait for it. Those beyond the ten that
# a server lets through one connection have to make their own: hence they start one by one.
# Whatever goes wrong here is told by the connection that follows.
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

# One that somebody who was killed has left must not stay.
for each in "$lock" "$gate"; do
  [ -z "$(find "$each" -prune -mmin +1)" ] || rmdir "$each"
done

# Waits for 10 s at most.
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
