#!/bin/sh
# Epilog: root, on every node of the job after its processes there have ended. Removes the token, and closes the
# session on the node that a job keeps longest, its first: others may be given back while it runs. Ends with 0 whatever
# happens, because anything else drains the node.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
conf=${0%/*}/slurm-hooks.conf
[ -r "$conf" ] || conf=/etc/qpud/slurm-hooks.conf
[ -r "$conf" ] && [ -n "$SLURM_JOB_ID" ] || exit 0
. "$conf"

job=$QPUD_JOBS/$SLURM_JOB_ID
[ -d "$job" ] || exit 0
session=$(cat "$job/session" 2>/dev/null)
rm -rf "$job"
[ -n "$session" ] || exit 0
timeout -k 1 "$QPUD_PATIENCE" "$QPUD" slurm close ${QPUD_SOCKET:+"--socket=$QPUD_SOCKET"} ${QPUD_URL:+"--url=$QPUD_URL"} \
    "--session=$session" 2>&1 | logger -t "qpud-epilog[$SLURM_JOB_ID]" 2>/dev/null
exit 0
