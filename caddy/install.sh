#!/bin/sh
# install put|remove PATH MAIN_FILE SERVICE: runs on Caddy's host; standard input is the new file.
set -u
action=$1 path=$2 main=$3 service=$4
draft=$path.draft before=$path.before

fail() { echo "$1" >&2; exit 1; }

# Run Caddy's command on the host, or in the container of the service (or with its name).
run_caddy() {
  [ -n "$service" ] || { caddy "$@"; return; }
  for filter in "label=com.docker.swarm.service.name=$service" "name=^/$service\$"; do
    id=$(docker ps --quiet --filter "$filter" | head -n 1)
    [ -z "$id" ] || { docker exec "$id" caddy "$@"; return; }
  done
  echo "no container of $service runs on this host" >&2
  return 1
}

# Whether this version of Caddy lets a client's own Remote-User through (CVE-2026-30851).
is_unsafe() {
  number=${1#v}
  number=${number%%[!0-9.]*}
  [ -n "$number" ] && [ "$number" != 2.11.2 ] &&
    [ "$(printf '%s\n' "$number" 2.11.2 | sort -V | head -n 1)" = "$number" ]
}

attempt() {
  message=$(run_caddy "$@" --config "$main" --adapter caddyfile 2>&1)
}

restore() {
  if [ -e "$before" ]; then mv -f "$before" "$path"; else rm -f "$path"; fi
}

[ -d "${path%/*}" ] || fail "the directory ${path%/*} does not exist: Caddy's main file must import it"
rm -f "$draft"
# If a run was killed, the old file is still in `before`, and Caddy may not have accepted `path`.
[ -e "$before" ] || [ ! -e "$path" ] || cp -p "$path" "$before" || fail "the old file cannot be copied"
case $action in
put)
  # Readable for Caddy's user, which may be any: a hash is no password, and the ingress key works
  # only from containers on Caddy's network.
  (umask 022 && cat >"$draft") || fail "the file cannot be written"
  version=$(run_caddy version 2>/dev/null)
  if grep -q copy_headers "$draft" && is_unsafe "$version"; then
    rm -f "$draft"
    restore
    fail "Caddy ${version%% *} lets a client's Remote-User through (CVE-2026-30851): install 2.11.2 or newer"
  fi
  mv -f "$draft" "$path" || fail "the file cannot be written"
  ;;
remove)
  rm -f "$path" || fail "the file cannot be removed"
  ;;
*) fail "the action is put or remove, not $action" ;;
esac

if ! attempt validate; then
  restore
  fail "Caddy refuses the new file and still serves the old configuration:
$message"
fi
if ! attempt reload; then
  restore
  reason=$message
  attempt reload || reason="$reason
Caddy does not reload the old configuration either:
$message"
  fail "Caddy does not reload, and the old file is restored:
$reason"
fi
rm -f "$before"
