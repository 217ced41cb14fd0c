#!/bin/sh
#SBATCH --job-name=malleable --nodes=2 --ntasks-per-node=1 --qpu=FRESNEL --time=30
# One Slurm job, which gives all nodes but its first back while it waits for the QPU, and goes on with that one.

best=$(srun python3 prepare.py | sort -n | tail -1)
qpud submit sweep.json --shots="${SHOTS:-100}" --variables="delta_end=${best#* }" --json >"$SLURM_JOB_ID.json" || exit
job=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])' <"$SLURM_JOB_ID.json")
nodes=$(qpud wait --yield-nodes "$job") || exit
eval "$nodes" # SLURM_NNODES and the like as they are now: srun would ask for two nodes otherwise
qpud result "$job" --json | srun --nodes=1 --ntasks=1 python3 analyse.py
