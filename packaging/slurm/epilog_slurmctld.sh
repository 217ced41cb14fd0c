#!/bin/sh
# EpilogSlurmctld: SlurmUser, on the controller, at each end of a run: normal, cancel, requeue, node failure. At least
# once: slurmctld repeats it after a restart. The job stays COMPLETING meanwhile, and is requeued only afterwards, so
# what is closed is always of the run that ended. Closes the job's session and those of `qpud run` inside it.
# Needs the Unix socket, and SlurmUser in AdminUsers; elsewhere epilog.sh and expiry do it.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
conf=${0%/*}/slurm-hooks.conf
[ -r "$conf" ] || conf=/etc/qpud/slurm-hooks.conf
[ -r "$conf" ] && [ -n "$SLURM_JOB_ID" ] || exit 0
. "$conf"

[ -S "$QPUD_SOCKET" ] || exit 0
timeout -k 1 "$QPUD_PATIENCE" "$QPUD" slurm close "--socket=$QPUD_SOCKET" "--slurm-job=$SLURM_JOB_ID" \
    "--uid=$SLURM_JOB_UID" 2>&1 | logger -t "qpud-epilog-slurmctld[$SLURM_JOB_ID]" 2>/dev/null
exit 0
