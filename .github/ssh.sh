#!/usr/bin/env bash
# Set up SSH to the manager: the key of this machine, and the manager's host key, known beforehand.
# A manager without SSH needs nothing.
set -euo pipefail
[[ -n ${SSH_KEY:-} ]] || exit 0
: "${SSH_KNOWN_HOSTS:?SSH_KNOWN_HOSTS is not set: set it to the output of ssh-keyscan, checked}"
umask 077
mkdir -p ~/.ssh
printf '%s\n' "$SSH_KNOWN_HOSTS" >>~/.ssh/known_hosts
printf '%s\n' "$SSH_KEY" >~/.ssh/id_deploy
cat >>~/.ssh/config <<'END'
Host *
  IdentityFile ~/.ssh/id_deploy
  StrictHostKeyChecking yes
END
