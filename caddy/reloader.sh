#!/bin/sh
# Hands the Caddyfile beside this script to the Caddy of the same node, and again to one that has
# started anew. Runs beside it (caddyMode managed), in the same image, on the same volume.
#
#   sh reloader.sh           goes on until it is stopped; ends with 78 and Caddy's own message where
#                            Caddy refuses the files, and goes on serving what it did before
#   sh reloader.sh healthy   whether this node's Caddy serves them; a node may have none
here=$(dirname "$0")
socket=/var/tmp/admin.sock
asked=/tmp/asked
settled=/tmp/settled

if [ "$1" = healthy ]; then
  # Once for all, as this ends when it is no longer so; each check costs the node a process.
  if [ -e "$settled-seen" ]; then sleep 15; exit 0; fi
  tries=0
  until [ -e "$settled" ]; do
    tries=$((tries + 1)); [ "$tries" -lt 80 ] || exit 1; sleep 0.25
  done
  : >"$settled-seen"
  exit 0
fi

hand_over() {
  : >"$asked"
  if said=$(caddy reload --config "$here/Caddyfile" --address "unix/$socket" 2>&1); then
    echo "handed over"
    unanswered=0
    return
  fi
  message=$(printf '%s\n' "$said" | tail -n 1)
  case $said in
    *"performing request"*)
      printf 'Caddy does not answer yet: %s\n' "$message"
      rm -f "$asked"
      unanswered=$((unanswered + 1))
      ;;
    *)
      # Long lines are cut short by whoever shows them: only the reason, without what it comes in.
      reason=${message##*: loading new config: }
      printf 'Caddy refuses it: %s\n' "${reason%'\"}\n"}'}" >&2
      exit 78
      ;;
  esac
}

unanswered=0
while :; do
  # A Caddy that starts makes its socket anew; one that takes other files keeps it.
  if [ -S "$socket" ] && ! [ "$asked" -nt "$socket" ]; then hand_over; fi
  # A socket at which nobody answers for long is that of a Caddy which is gone from here.
  if [ "$unanswered" = 0 ] || [ "$unanswered" -gt 3 ]; then : >"$settled"; fi
  sleep 1
done
