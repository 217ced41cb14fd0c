# common.sh: read by each hook, which lies in the same folder. Slurm gives hooks no PATH.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
conf=/etc/qpud/slurm-hooks.conf
[ -r "$conf" ] || conf=${0%/*}/slurm-hooks.conf
[ -r "$conf" ] && [ -n "$SLURM_JOB_ID" ] || exit 0
. "$conf"
job=$QPUD_JOBS/$SLURM_JOB_ID

# Whether the job asks for a QPU: by the option, ours or that of QRMI's own plugin; else the comment
# "qpud:qpu=NAME,hint=HINT", the licence, or its partition. Sets qpu and hint, which are the user's words.
asks() {
    qpu=${SPANK_QPUD_QPU:-$SPANK__SLURM_SPANK_OPTION_spank_qrmi_qpu} hint=$SPANK_QPUD_HINT
    [ -z "$qpu" ] || return 0
    case $SLURM_JOB_COMMENT in
    qpud:*)
        for word in $(printf %s "${SLURM_JOB_COMMENT#qpud:}" | tr -c 'A-Za-z0-9_.=-' ' '); do
            case $word in qpu=*) qpu=${word#qpu=} ;; hint=*) hint=${word#hint=} ;; esac
        done
        return 0
        ;;
    esac
    case ",$SLURM_JOB_LICENSES," in *",$QPUD_LICENCE,"* | *",$QPUD_LICENCE:"*) return 0 ;; esac
    case " $QPUD_PARTITIONS " in *" $SLURM_JOB_PARTITION "*) return 0 ;; esac
    return 1
}

# qpud VERB …: for a few seconds at most, its complaints to syslog.
qpud_slurm() {
    timeout -k 1 "$QPUD_PATIENCE" "$QPUD" slurm "$@" ${QPUD_SOCKET:+"--socket=$QPUD_SOCKET"} \
        ${QPUD_URL:+"--url=$QPUD_URL"} 2>&1 | logger -t "qpud-slurm[$SLURM_JOB_ID]" 2>/dev/null
}
