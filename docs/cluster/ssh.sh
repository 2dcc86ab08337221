#!/bin/sh
# Three machines over SSH: the scheduler and the leader on this one, workers on all three. All have the same version of
# anonymise in the same place, and the same share at the same path.
#
#   HOSTS="node1 node2" TLS=$HOME/tls docs/cluster/ssh.sh -i /mnt/street/in -o /mnt/street/out -k lite_config.yml
#
# TLS is a folder with ca.pem, cert.pem and key.pem, which is on all machines (docs/cluster.md says how to make them).
set -eu
ANONYMISE=${ANONYMISE:-$HOME/anonymise/.venv/bin}
HERE=${HERE:-$(hostname -f)}
WORKERS=${WORKERS:-2}
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$TLS/ca.pem"
for role in SCHEDULER WORKER CLIENT; do
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$TLS/cert.pem"
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$TLS/key.pem"
done
tls="--tls-ca-file $TLS/ca.pem --tls-cert $TLS/cert.pem --tls-key $TLS/key.pem"
worker="$ANONYMISE/dask worker tls://$HERE:8786 $tls --nworkers $WORKERS --nthreads 1 --no-dashboard --death-timeout 60"
pids=
trap 'kill $pids 2>/dev/null || true' EXIT INT TERM
# shellcheck disable=SC2086
"$ANONYMISE/dask" scheduler --protocol tls --port 8786 $tls --no-dashboard & pids="$pids $!"
# shellcheck disable=SC2086
$worker & pids="$pids $!"
for host in $HOSTS; do
    # -tt: the workers end with the connection.
    ssh -tt "$host" "$worker" & pids="$pids $!"
done
"$ANONYMISE/anonymise" "$@" --cluster "tls://$HERE:8786"
