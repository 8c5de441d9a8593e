#!/usr/bin/env bash
# Open the issue about drift of $STACK, or update it, or close it when there is none any more.
# Wants STATUS (what the look for drift ended with), STACK, RUN, REPORT, PAGE, and a token for gh.
set -euo pipefail
title="Drift of the stack $STACK"
# Anybody can open one of that title, and would then own what is told in it.
number=$(gh issue list --state open --limit 1000 --json author,number,title \
  --jq "map(select(.title == \"$title\" and .author.is_bot)) | .[0].number // empty")

case $STATUS in
0)
  [[ -z $number ]] || gh issue close "$number" --comment "Gone: $PAGE"
  exit 0
  ;;
7) # the Pulumi CLI's own for changes where none were expected
  advice="\`pulumi up\` repairs what was changed by hand; to keep it, write it into the config."
  ;;
*)
  advice="The look itself failed, so that nobody knows of drift: its error stands at the end."
  ;;
esac

gh run download "$RUN" --name "$REPORT" --dir report
{
  python3 -m preview.comment "Found by $PAGE" report/drift.txt
  printf '\n%s\n' "$advice"
} >issue.md
if [[ -n $number ]]; then
  gh issue edit "$number" --body-file issue.md
else
  gh issue create --title "$title" --body-file issue.md
fi
