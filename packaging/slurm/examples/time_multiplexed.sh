#!/bin/sh
#SBATCH --job-name=time-multiplexed --nodes=2 --ntasks-per-node=1 --qpu=FRESNEL --time=30
# One Slurm job, which holds its nodes from the preparation to the analysis.

best=$(srun python3 prepare.py | sort -n | tail -1)
qpud submit sweep.json --shots="${SHOTS:-100}" --variables="delta_end=${best#* }" --wait --json >"$SLURM_JOB_ID.json" ||
    exit
srun --nodes=1 --ntasks=1 python3 analyse.py <"$SLURM_JOB_ID.json"
