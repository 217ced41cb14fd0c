#!/bin/sh
#SBATCH --job-name=workflow --nodes=2 --ntasks-per-node=1 --qpu=FRESNEL --time=30
# Two Slurm jobs, and no node held while the QPU works: this one prepares and ends. workflow_post.sh is held until the
# QPU job has ended: then qpud releases it.

best=$(srun python3 prepare.py | sort -n | tail -1)
post=$(sbatch --parsable --hold workflow_post.sh) || exit
qpud submit sweep.json --shots="${SHOTS:-100}" --variables="delta_end=${best#* }" --then-release="$post" --json \
    >"$post.json" || scancel "$post"
