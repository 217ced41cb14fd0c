#!/bin/sh
#SBATCH --job-name=workflow-post --nodes=1 --ntasks=1 --qpu=FRESNEL --time=10
# The second half of workflow.sh: it starts once the QPU job has ended, however that was, so it looks first. It has a
# session of its own; its user may read all his results.

job=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])' <"$SLURM_JOB_ID.json")
qpud result "$job" --json >"result-$job.json" || exit
srun python3 analyse.py <"result-$job.json"
