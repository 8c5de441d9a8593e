#!/bin/sh
# Loads the Caddyfile beside this script into the Caddy of this node, and again after Caddy has
# restarted. Runs beside a managed Caddy, in the same image, on the same volume.
#
#   sh reloader.sh           runs until it is stopped; if Caddy refuses the Caddyfile, it exits with
#                            78 and Caddy's message, and Caddy still serves the old configuration
#   sh reloader.sh healthy   checks that this node's Caddy, if any, has the Caddyfile loaded
here=$(dirname "$0")
socket=/var/tmp/admin.sock
tried=/tmp/tried
settled=/tmp/settled

if [ "$1" = healthy ]; then
  # Checked once: the reloader exits when this changes. Each check costs the node a process.
  if [ -e "$settled-seen" ]; then sleep 15; exit 0; fi
  tries=0
  until [ -e "$settled" ]; do
    tries=$((tries + 1)); [ "$tries" -lt 80 ] || exit 1; sleep 0.25
  done
  : >"$settled-seen"
  exit 0
fi

# Whether this version of Caddy lets a client's own Remote-User through (CVE-2026-30851).
is_unsafe() {
  number=${1#v}
  number=${number%%[!0-9.]*}
  [ -n "$number" ] && [ "$number" != 2.11.2 ] &&
    [ "$(printf '%s\n' "$number" 2.11.2 | sort -V | head -n 1)" = "$number" ]
}

version=$(caddy version)
if grep -q copy_headers "$here"/*.caddy 2>/dev/null && is_unsafe "$version"; then
  echo "Caddy ${version%% *} lets a client's Remote-User through (CVE-2026-30851): use 2.11.2 or newer" >&2
  exit 78
fi

load() {
  : >"$tried"
  if output=$(caddy reload --config "$here/Caddyfile" --address "unix/$socket" 2>&1); then
    echo "Caddy has loaded the Caddyfile"
    unanswered=0
    return
  fi
  message=$(printf '%s\n' "$output" | tail -n 1)
  case $output in
    *"performing request"*)
      printf 'Caddy does not answer yet: %s\n' "$message"
      rm -f "$tried"
      unanswered=$((unanswered + 1))
      ;;
    *)
      # Long lines are cut where they are shown, so print the reason only.
      reason=${message##*: loading new config: }
      reason=${reason%'\"}\n"}'}  # as a line of JSON
      printf 'Caddy refuses the Caddyfile: %s\n' "${reason%'"}'}" >&2  # as text, by older Caddys
      exit 78
      ;;
  esac
}

unanswered=0
while :; do
  # A Caddy that restarts creates its socket again; a reload keeps it.
  if [ -S "$socket" ] && ! [ "$tried" -nt "$socket" ]; then load; fi
  # A socket that does not answer for long is left over from a Caddy that has moved to another node.
  if [ "$unanswered" = 0 ] || [ "$unanswered" -gt 3 ]; then : >"$settled"; fi
  sleep 1
done
