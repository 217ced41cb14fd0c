#!/bin/sh
# EpilogSlurmctld: SlurmUser, on the controller, at each end of a run: normal, cancel, requeue, node failure. At least
# once: slurmctld repeats it after a restart. The job stays COMPLETING meanwhile and is started again only afterwards,
# so what is closed is always of the run that ended. Closes the job's session and those of `qpud run` inside it.
# Needs the Unix socket, and SlurmUser in AdminUsers; elsewhere epilog.sh and expiry do it.
trap 'exit 0' EXIT
. "${0%/*}/common.sh"
asks && [ -S "$QPUD_SOCKET" ] || exit 0
QPUD_URL= # no other way would be allowed
qpud_slurm close "--slurm-job=$SLURM_JOB_ID" "--uid=$SLURM_JOB_UID"
