#!/bin/sh
# exchange put|remove PLACE MAIN_FILE SERVICE: run on Caddy's host; the new file is standard input.
set -u
action=$1 place=$2 main=$3 service=$4
draft=$place.draft before=$place.before

fail() { echo "$1" >&2; exit 1; }

# The program of the host, or the one in the container of a service (or of that name) on it.
caddy_there() {
  [ -n "$service" ] || { caddy "$@"; return; }
  for filter in "label=com.docker.swarm.service.name=$service" "name=^/$service\$"; do
    id=$(docker ps --quiet --filter "$filter" | head -n 1)
    [ -z "$id" ] || { docker exec "$id" caddy "$@"; return; }
  done
  echo "no container of $service runs on this host" >&2
  return 1
}

attempt() {
  said=$(caddy_there "$@" --config "$main" --adapter caddyfile 2>&1)
}

put_back() {
  if [ -e "$before" ]; then mv -f "$before" "$place"; else rm -f "$place"; fi
}

[ -d "${place%/*}" ] || fail "there is no directory ${place%/*}: Caddy's main file must import one"
rm -f "$draft" "$before"
[ ! -e "$place" ] || cp -p "$place" "$before" || fail "the present file cannot be copied"
case $action in
put)
  # Read by Caddy's user, whoever that is; a hash in it is no password, and the front key opens
  # nothing but to a container on Caddy's network.
  { (umask 022 && cat >"$draft") && mv -f "$draft" "$place"; } || fail "the file cannot be written"
  ;;
remove)
  rm -f "$place" || fail "the file cannot be removed"
  ;;
*) fail "put or remove, not $action" ;;
esac

if ! attempt validate; then
  put_back
  fail "Caddy refuses it, and still serves what it did before:
$said"
fi
if ! attempt reload; then
  put_back
  why=$said
  attempt reload || why="$why
nor does it reload what was there before:
$said"
  fail "Caddy does not reload, and the file is as it was before:
$why"
fi
rm -f "$before"
