#!/usr/bin/env bash
#SBATCH --job-name=sign-ensemble
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sign-ensemble-%j.log
#
# Runs sign_ensemble.tune, with the arguments given, on all nodes of one allocation.
set -euo pipefail

export RAY_AUTH_MODE=token
if [[ -z ${RAY_AUTH_TOKEN:-} ]]; then # a token of this job, passed to the nodes by srun
    RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
    export RAY_AUTH_TOKEN
fi

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes%%$'\n'*}
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs on one node need different ports

srun --kill-on-bad-exit=1 ray symmetric-run \
    --address "$head:$port" \
    --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" \
    --disable-usage-stats \
    -- env "RAY_ADDRESS=$head:$port" python -m sign_ensemble.tune "$@"
