#!/bin/sh
# A Slurm job array without any engine: each task does one shard. A task that is killed is sent again as it is, and goes
# on where it was.
#
#   sbatch docs/cluster/slurm.sh /share/in /share/out lite_config.yml
#
#SBATCH --job-name=anonymise
#SBATCH --array=0-7
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -eu
ANONYMISE=${ANONYMISE:-$HOME/anonymise/.venv/bin}
# exec: the signal before the time is over reaches the program, which finishes what is in work.
exec "$ANONYMISE/anonymise" -i "$1" -o "$2" -k "$3" \
    --set "model_threads=$SLURM_CPUS_PER_TASK" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
