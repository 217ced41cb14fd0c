#!/bin/sh
# Prolog: root, on every node of the job before anything of it runs; needs PrologFlags=Alloc. Opens the job's session
# and lays its token where only its owner can read it. Ends with 0 whatever happens, because anything else drains the
# node: without a daemon the job starts without a session, and its first call to qpud says why.
trap 'exit 0' EXIT
. "${0%/*}/common.sh"
asks || exit 0
qpud_slurm open "--folder=$job" "--slurm-job=$SLURM_JOB_ID" "--uid=$SLURM_JOB_UID" "--gid=$SLURM_JOB_GID" \
    "--nodes=${SLURM_JOB_NODELIST:-$SLURM_NODELIST}" "--node=$SLURMD_NODENAME" ${qpu:+"--qpu=$qpu"} ${hint:+"--hint=$hint"}
