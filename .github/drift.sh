#!/usr/bin/env bash
# Open, update or close the issue about the drift of $STACK.
# Needs STATUS (the exit status of the drift check), STACK, RUN, ARTIFACT, PAGE, and a token for gh.
set -euo pipefail
title="Drift of the stack $STACK"
longest=60000 # GitHub accepts 65,536 characters

# Print a file as a code block of plain ASCII: no text in it can end the block or hide other text.
# A text that is too long loses its middle, because the error and the summary are at its end.
code_block() {
  local text half=$((longest / 2))
  [[ -f $1 && ! -L $1 ]] || { echo "$1 is not a file" >&2; return 1; }
  text=$(LC_ALL=C sed 's/\x1b\[[0-9;?]*[A-Za-z]//g' "$1" | tr '`' "'" | LC_ALL=C tr -c '\t\n -~' '?')
  if ((${#text} > longest)); then
    text="${text::half}"$'\n'"... the middle is left out here: see the run ..."$'\n'"${text: -half}"
  fi
  printf '%s\n' '```diff' "$text" '```'
}

# Anybody can open an issue with this title, and could then edit the report.
number=$(gh issue list --state open --limit 1000 --json author,number,title \
  --jq "map(select(.title == \"$title\" and .author.is_bot)) | .[0].number // empty")

case $STATUS in
0)
  [[ -z $number ]] || gh issue close "$number" --comment "The drift is gone: $PAGE"
  exit 0
  ;;
7) # how the Pulumi CLI reports changes where none were expected
  advice="\`pulumi up\` undoes the drift. To keep a change, write it into the config."
  ;;
*)
  advice="The drift check failed, so drift is unknown. The error is at the end of the report."
  ;;
esac

gh run download "$RUN" --name "$ARTIFACT" --dir report
{
  printf '### Drift check: %s\n\n' "$PAGE"
  code_block report/drift.txt
  printf '\n%s\n' "$advice"
} >issue.md
if [[ -n $number ]]; then
  gh issue edit "$number" --body-file issue.md
else
  gh issue create --title "$title" --body-file issue.md
fi
