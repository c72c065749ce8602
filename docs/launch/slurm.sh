#!/bin/bash
# A run on two machines of eight GPUs each, which goes on by itself when the queue takes the machines back.
#   sbatch docs/launch/slurm.sh
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@180
set -uo pipefail

# Three minutes before the end SLURM sends SIGUSR1 to every process: the run saves itself and stops with code 138.
export MASTER_ADDR MASTER_PORT
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

srun bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    exec vitral train folder --data.root photos --out runs/photos --or-resume --data.workers 10
'
code=$?

# 138 is 128 + SIGUSR1, 143 is 128 + SIGTERM: not done yet, so back into the queue with the same command.
if [ "$code" -eq 138 ] || [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
