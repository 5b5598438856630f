#!/usr/bin/env bash
# Starts a real Slurm of one node on a Debian 12 host: munged, slurmctld and slurmd, all of our own. Needs root.
# Idempotent: starts again what has died. Prints the SLURM_CONF to export.
# State under $SERVICES_HOME (default /var/lib/agentpipe-services). Nothing of the host's own Slurm or munge is touched.
set -euo pipefail
home=${SERVICES_HOME:-/var/lib/agentpipe-services}/slurm
conf=$home/slurm.conf
host=$(hostname -s)
export SLURM_CONF=$conf
# shellcheck source=tests/services/daemons.bash
. "$(dirname "$0")/daemons.bash"
wait_for() {  # COMMAND…: until it succeeds, 30 s at most
  local end=$((SECONDS + 30))
  while [ "$SECONDS" -lt "$end" ]; do "$@" >/dev/null 2>&1 && return; sleep 0.25; done
  return 1
}
fail() { echo "slurm-up: $1" >&2; tail -n 12 "$home"/log/*.log >&2; exit 69; }
mkdir -p "$home/ctld" "$home/spool" "$home/log"
exec 9>"$home/lock"; flock 9
command -v slurmd >/dev/null || { echo "slurm-up: apt-get install slurm-wlm munge" >&2; exit 69; }

cat >"$conf" <<CONF
ClusterName=agentpipe
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
CredType=cred/munge
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
StateSaveLocation=$home/ctld
SlurmdSpoolDir=$home/spool
SlurmctldLogFile=$home/log/slurmctld.log
SlurmdLogFile=$home/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobCompType=jobcomp/none
ReturnToService=2
SlurmdParameters=config_overrides
MpiDefault=none
KillWait=5
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=4 RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes=n1 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF

# 9>&-: no daemon holds our lock; 3 and 4: bats waits for them
if ! alive "$home/munge/munged.pid" munged; then              # its own key, socket and all
  mkdir -p "$home/munge"; chown munge: "$home/munge"; chmod 711 "$home/munge"
  [ -s "$home/munge/key" ] || head -c 1024 /dev/urandom >"$home/munge/key"
  chown munge: "$home/munge/key"; chmod 400 "$home/munge/key"
  runuser -u munge -- setsid munged --force --socket="$home/munge/socket" --key-file="$home/munge/key" \
    --pid-file="$home/munge/munged.pid" --seed-file="$home/munge/seed" --log-file="$home/munge/munged.log" \
    3>&- 4>&- 9>&- 2>/dev/null
fi
alive "$home/slurmctld.pid" slurmctld || setsid slurmctld -f "$conf" >/dev/null 2>&1 </dev/null 3>&- 4>&- 9>&-
wait_for timeout 10 scontrol ping || fail "slurmctld did not answer"
alive "$home/slurmd.pid" slurmd || setsid slurmd -f "$conf" -N n1 >/dev/null 2>&1 </dev/null 3>&- 4>&- 9>&-
ready() { [ "$(sinfo -h -N -t idle,mixed,allocated -o %T | grep -cv '\*$')" -ge 1 ]; }
wait_for ready || { sinfo -N -l >&2 || true; fail "its node did not come up"; }
echo "SLURM_CONF=$conf"
