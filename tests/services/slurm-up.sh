#!/usr/bin/env bash
# Starts a real Slurm on a Debian 12 host: munged, one slurmctld and N slurmd (default 2) that act as N machines of 4
# cores and 2 pretended GPUs each. Needs root. Idempotent: starts again what has died (a slurmd that a test killed),
# and everything where N or the wish for accounting has changed. Prints the SLURM_CONF to export.
#   slurm-up.sh [N]                 SLURM_ACCOUNTING=1 slurm-up.sh [N]   with slurmdbd on MariaDB, so that sacct answers
# State under $SERVICES_HOME (default /var/lib/agentpipe-services). Nothing of the host's own Slurm or munge is touched.
set -euo pipefail
nodes=${1:-2}
accounting=${SLURM_ACCOUNTING:-0}
home=${SERVICES_HOME:-/var/lib/agentpipe-services}/slurm
conf=$home/slurm.conf
host=$(hostname -s)
export SLURM_CONF=$conf
alive() {  # PIDFILE NAME; a zombie is as good as gone
  local pid; pid=$(cat "$1" 2>/dev/null) || return 1
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null
}
wait_for() {  # COMMAND…: until it succeeds, 30 s at most
  local end=$((SECONDS + 30))
  while [ "$SECONDS" -lt "$end" ]; do "$@" >/dev/null 2>&1 && return; sleep 0.25; done
  return 1
}
fail() { echo "slurm-up: $1" >&2; tail -n 12 "$home"/log/*.log >&2; exit 69; }
mkdir -p "$home/ctld" "$home/log" "$home/gpu"
exec 9>"$home/lock"; flock 9

packages=(slurm-wlm slurm-wlm-basic-plugins munge)
[ "$accounting" = 0 ] || packages+=(slurmdbd mariadb-server)
# dpkg -s would also succeed for a package that was removed but not purged.
if [ "$(dpkg-query -W -f '${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | grep -cx installed)" != "${#packages[@]}" ]; then
  apt-get update -qq
  # policy-rc.d: on a host with an init system the packages must not start daemons of their own.
  own=; [ -e /usr/sbin/policy-rc.d ] || { own=1; printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || { rc=$?; [ -z "$own" ] || rm -f /usr/sbin/policy-rc.d; exit "$rc"; }
  [ -z "$own" ] || rm -f /usr/sbin/policy-rc.d
fi

{
  cat <<CONF
ClusterName=agentpipe
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
CredType=cred/munge
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.%n.pid
StateSaveLocation=$home/ctld
SlurmdSpoolDir=$home/spool.%n
SlurmctldLogFile=$home/log/slurmctld.log
SlurmdLogFile=$home/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc=$home/log/jobcomp.txt
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
MpiDefault=none
SlurmdTimeout=30
KillWait=5
MinJobAge=300
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MailProg=/bin/true
CONF
  if [ "$accounting" = 0 ]; then echo "AccountingStorageType=accounting_storage/none"
  else printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=127.0.0.1 AccountingStoragePort=16819 \
    "AccountingStoragePass=$home/munge/socket" AccountingStorageTRES=gres/gpu; fi
  for n in $(seq "$nodes"); do
    echo "NodeName=n$n NodeHostname=$host NodeAddr=127.0.0.1 Port=$((17000 + n)) CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=2000 Gres=gpu:2 State=UNKNOWN"
  done
  list=n1; [ "$nodes" = 1 ] || list="n[1-$nodes]"
  echo "PartitionName=debug Nodes=$list Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1 GraceTime=5"
  echo "PartitionName=urgent Nodes=$list MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=10 PreemptMode=OFF"
} >"$conf.new"
for n in $(seq "$nodes"); do
  for g in 0 1; do      # a null device stands for the GPU: Slurm sets CUDA_VISIBLE_DEVICES for real devices only
    [ -c "$home/gpu/n$n-$g" ] || mknod "$home/gpu/n$n-$g" c 1 3
  done
  echo "NodeName=n$n Name=gpu File=$home/gpu/n$n-[0-1] Flags=nvidia_gpu_env"
done >"$home/gres.conf"

# Another N or kind: from the start. Otherwise only what is dead is started.
if ! cmp -s "$conf" "$conf.new"; then
  SERVICES_HOME=$(dirname "$home") "$(dirname "$0")/slurm-down.sh" 9>&-
  rm -rf "$home/ctld" "$home"/spool.*; mkdir -p "$home/ctld"
fi
mv "$conf.new" "$conf"

if ! alive "$home/munge/munged.pid" munged; then              # its own key, socket and all
  mkdir -p "$home/munge"; chown munge: "$home/munge"; chmod 711 "$home/munge"
  [ -s "$home/munge/key" ] || head -c 1024 /dev/urandom >"$home/munge/key"
  chown munge: "$home/munge/key"; chmod 400 "$home/munge/key"
  runuser -u munge -- setsid munged --force --socket="$home/munge/socket" --key-file="$home/munge/key" \
    --pid-file="$home/munge/munged.pid" --seed-file="$home/munge/seed" --log-file="$home/munge/munged.log" 3>&- 4>&- 9>&- 2>/dev/null
fi

if [ "$accounting" != 0 ]; then
  if ! alive "$home/mariadb.pid" mariadbd; then
    if [ ! -d "$home/mysql/mysql" ]; then
      mkdir -p "$home/mysql"; chown mysql: "$home/mysql"
      mariadb-install-db --no-defaults --user=mysql --datadir="$home/mysql" --skip-test-db >"$home/log/mariadb.log" 2>&1
    fi
    setsid mariadbd --no-defaults --user=mysql --datadir="$home/mysql" --socket="$home/mysql/sock" --pid-file="$home/mysql/pid" \
      --bind-address=127.0.0.1 --port=13306 --skip-name-resolve --innodb-lock-wait-timeout=900 --innodb-buffer-pool-size=128M --skip-log-bin \
      >>"$home/log/mariadb.log" 2>&1 </dev/null 3>&- 4>&- 9>&- &
    echo $! >"$home/mariadb.pid"
    wait_for mariadb --no-defaults --socket="$home/mysql/sock" -e 'select 1' || fail "MariaDB did not answer"
    mariadb --no-defaults --socket="$home/mysql/sock" -e \
      "create database if not exists slurm; create user if not exists slurm@'127.0.0.1' identified by 'slurm'; grant all on slurm.* to slurm@'127.0.0.1'"
  fi
  if ! alive "$home/slurmdbd.pid" slurmdbd; then
    (umask 077; cat >"$home/slurmdbd.conf" <<CONF
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=16819
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
SlurmUser=root
LogFile=$home/log/slurmdbd.log
PidFile=$home/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=13306
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
CONF
    )
    setsid slurmdbd >/dev/null 2>&1 </dev/null 3>&- 4>&- 9>&-           # its conf is beside SLURM_CONF
    wait_for timeout 10 sacctmgr -n show cluster || fail "slurmdbd did not answer"
    sacctmgr -iQ add cluster agentpipe >/dev/null 2>&1 || true
  fi
fi

alive "$home/slurmctld.pid" slurmctld || setsid slurmctld -f "$conf" >/dev/null 2>&1 </dev/null 3>&- 4>&- 9>&-
wait_for timeout 10 scontrol ping || fail "slurmctld did not answer"
for n in $(seq "$nodes"); do
  mkdir -p "$home/spool.n$n"
  alive "$home/slurmd.n$n.pid" slurmd || setsid slurmd -f "$conf" -N "n$n" >/dev/null 2>&1 </dev/null 3>&- 4>&- 9>&-
done
ready() { [ "$(sinfo -h -N -p debug -t idle,mixed,allocated -o '%N %T' | grep -cv '\*$')" -ge "$nodes" ]; }
wait_for ready || { sinfo -N -l >&2 || true; fail "not all of $nodes nodes came up"; }
echo "SLURM_CONF=$conf"
