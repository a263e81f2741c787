#!/bin/bash
# One training run on two nodes of four GPUs: sbatch examples/slurm.sh [options of understudy train]
# The run directory must be on a file system that both nodes see. The same command again resumes.
#SBATCH --job-name=understudy
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
# Two minutes before the time limit, every process receives SIGTERM, saves and stops:
#SBATCH --signal=TERM@120
set -euo pipefail

GPUS=4
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / GPUS))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# one task per node (--ntasks-per-node=1), which runs one torchrun: more tasks would be processes that train alone
srun --ntasks-per-node=1 torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "$GPUS" \
    --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" \
    -m understudy train --processes $((SLURM_NNODES * GPUS)) "$@"
