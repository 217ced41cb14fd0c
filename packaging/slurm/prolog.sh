#!/bin/sh
# Prolog: root, on every node of the job before anything of it runs; needs PrologFlags=Alloc. Opens the job's session
# and lays its token where only its owner can read it. Ends with 0 whatever happens, because anything else drains the
# node: without a daemon the job starts without a session, and its first call to qpud says why.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
conf=${0%/*}/slurm-hooks.conf
[ -r "$conf" ] || conf=/etc/qpud/slurm-hooks.conf
[ -r "$conf" ] && [ -n "$SLURM_JOB_ID" ] || exit 0
. "$conf"

# Who asks: the option; else the comment "qpud:qpu=NAME,hint=HINT"; else the licence; else the partition.
qpu=$SPANK_QPUD_QPU hint=$SPANK_QPUD_HINT wants=$SPANK_QPUD_QPU
if [ -z "$wants" ]; then
    case $SLURM_JOB_COMMENT in qpud:*)
        wants=comment
        for word in $(printf %s "${SLURM_JOB_COMMENT#qpud:}" | tr -c 'A-Za-z0-9_.=-' ' '); do
            case $word in qpu=*) qpu=${word#qpu=} ;; hint=*) hint=${word#hint=} ;; esac
        done ;;
    esac
    case ",$SLURM_JOB_LICENSES," in *",$QPUD_LICENCE,"* | *",$QPUD_LICENCE:"*) wants=licence ;; esac
    case " $QPUD_PARTITIONS " in *" $SLURM_JOB_PARTITION "*) wants=partition ;; esac
fi
[ -n "$wants" ] || exit 0

timeout -k 1 "$QPUD_PATIENCE" "$QPUD" slurm open ${QPUD_SOCKET:+"--socket=$QPUD_SOCKET"} ${QPUD_URL:+"--url=$QPUD_URL"} \
    "--folder=$QPUD_JOBS/$SLURM_JOB_ID" "--slurm-job=$SLURM_JOB_ID" "--uid=$SLURM_JOB_UID" "--gid=$SLURM_JOB_GID" \
    ${qpu:+"--qpu=$qpu"} ${hint:+"--hint=$hint"} 2>&1 | logger -t "qpud-prolog[$SLURM_JOB_ID]" 2>/dev/null
exit 0
