#!/usr/bin/env bash
# Give this machine the key to the manager, whose own key must be known beforehand.
# Nothing to do for a manager that is not reached by SSH.
set -euo pipefail
[[ -n ${SSH_KEY:-} ]] || exit 0
: "${SSH_KNOWN_HOSTS:?SSH_KNOWN_HOSTS is not set: fill it with what ssh-keyscan prints, checked}"
umask 077
mkdir -p ~/.ssh
printf '%s\n' "$SSH_KNOWN_HOSTS" >>~/.ssh/known_hosts
printf '%s\n' "$SSH_KEY" >~/.ssh/id_deploy
cat >>~/.ssh/config <<'END'
Host *
  IdentityFile ~/.ssh/id_deploy
  StrictHostKeyChecking yes
END
