#!/bin/sh
# Epilog: root, on every node of the job after its processes there have ended. Removes the token, and closes the
# session on the job's first node: the others may be given back while it runs. Ends with 0 whatever happens, because
# anything else drains the node.
trap 'exit 0' EXIT
. "${0%/*}/common.sh"
[ -d "$job" ] || exit 0
session=$(cat "$job/session" 2>/dev/null)
rm -rf "$job"
[ -z "$session" ] || qpud_slurm close "--session=$session"
