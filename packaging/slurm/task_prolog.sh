#!/bin/sh
# TaskProlog: the user, once for each task; what it prints as `export NAME=VALUE` is the task's environment. The token
# itself stays in its file: an environment is inherited, exported by sbatch, and logged. Ends with 0 whatever happens,
# because anything else fails the job.
trap 'exit 0' EXIT
inherited=$QPUD_TOKEN_FILE
. "${0%/*}/common.sh"
if [ ! -r "$job/environment" ]; then # no session, or the daemon was away
    [ -z "$inherited" ] || echo "unset QPUD_TOKEN_FILE" # of the job from which this one was submitted
    [ -z "$SLURM_SPANK_QPUD_QPU" ] || echo "export QPUD_QPU=${SLURM_SPANK_QPUD_QPU%%,*}"
    [ -z "$SLURM_SPANK_QPUD_QPU" ] || echo "export QPUD_URL=$QPUD_URL"
    exit 0
fi
# Root by munge gets no token for another user: the owner fetches it, by his own credential. Tasks that start together
# wait for the first of them, so that a node has one token and not one for each.
[ -s "$job/token" ] || [ ! -w "$job/token" ] || (
    flock -w "$QPUD_PATIENCE" 9 && [ ! -s "$job/token" ] &&
        timeout -k 1 "$QPUD_PATIENCE" "$QPUD" slurm token "--url=$QPUD_URL" "--slurm-job=$SLURM_JOB_ID" 2>/dev/null >&9
) 9>>"$job/token"
while IFS= read -r line; do
    case $line in
    NO_PROXY=*) line=NO_PROXY=${NO_PROXY:+$NO_PROXY,}${line#*=} ;;
    no_proxy=*) line=no_proxy=${no_proxy:+$no_proxy,}${line#*=} ;;
    esac
    echo "export $line"
done <"$job/environment"
