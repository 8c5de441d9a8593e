#!/bin/sh
# one_first HOME HOST PORT USER: open the one connection to a host that all others go through.
#
# ssh runs it before each connection. A dozen come at once, while a server turns away all but the
# first few that have not logged in yet: so one goes first, and the others wait for it. Whatever
# goes wrong here is told by the connection that follows.
set -u
home=$1 host=$2 port=$3 user=$4
[ -z "${DASK_SWARM_FIRST:-}" ] || exit 0
export DASK_SWARM_FIRST=1
exec >/dev/null 2>&1

to_host() { ssh -F remote/ssh_config -l "$user" -p "$port" "$@" -- "$host"; }
is_open() { to_host -O check; }

! is_open || exit 0
[ -d "$home/.ssh" ] || mkdir -m 700 "$home/.ssh"
lock=$home/.ssh/dask-$user-$host-$port.lock
# Left by one that was killed.
[ -z "$(find "$lock" -prune -mmin +1)" ] || rmdir "$lock"
if mkdir "$lock"; then
  trap 'rmdir "$lock"' EXIT
  trap 'exit 1' HUP INT TERM
  is_open || to_host -f -N -o ControlMaster=yes -o ControlPersist=60
else
  tries=0
  while [ -d "$lock" ] && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
  is_open
fi
