#!/bin/bash
# A sweep on several nodes of a SLURM cluster, from a checkout with its environment in .venv on a shared folder:
#   sbatch deploy/slurm.sh search_spaces/augment.yaml [options of harness.sweep]
# A job that reaches its time limit is continued by submitting it again: what had finished is kept. To end one tidily before:
#   scancel --batch --signal=TERM JOB
#SBATCH --job-name=selbench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
# GPUs:  --gpus-per-node=4

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source .venv/bin/activate

# Ray's memory monitor would end the whole sweep, not the trial that needs too much; niceness would distort the times.
export RAY_memory_monitor_refresh_ms=0 RAY_worker_niceness=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# A job's own TMPDIR may be longer than the names of sockets can be; another user's Ray in /tmp leaves files that only they may write.
export RAY_TMPDIR="${RAY_TMPDIR:-/tmp/selbench-$(id -u)}"
# Only who has the token may use the cluster's ports. The file lies in the home folder, which the nodes share; Ray makes it
# as open as the umask lets it.
(umask 077 && ray get-auth-token --generate >/dev/null)
[ ! -e ~/.ray/auth_token ] || chmod 600 ~/.ray/auth_token
export RAY_AUTH_MODE=token

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}'):6379"

# Starts Ray on every node, the command on the first, and stops Ray when that has ended. Decoded data stays on each node's
# own disk; the stages lie on the shared folder.
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
  python -m harness.sweep "$@" --address "$address" --cache "${TMPDIR:-/tmp}/selbench-$USER-data" --resume &
run=$!

# Two minutes before the time limit SLURM tells this script, which tells the sweep alone, if it has begun: it ends its trials and writes its
# report. Who tells the whole job ends Ray's servers with it.
trap 'pkill -TERM -u "$(id -u)" -f "^[^ ]*python[^ ]* -m harness[.]sweep .*--address $address" || kill "$run" || true' TERM
while true; do
  wait "$run" && status=0 || status=$?
  kill -0 "$run" 2>/dev/null || break
done
exit "$status"
