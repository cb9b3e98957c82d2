#!/usr/bin/env bash
# A private SLURM on this one machine: munged, slurmctld and NODES slurmd, without systemd, cgroups
# or slurmdbd. Needs root, and the packages slurm-wlm and munge (`install` fetches them).
# usage: slurm.sh install | start DIR [NODES] | stop DIR
#   start writes the links /etc/slurm/{slurm,gres}.conf, stop removes them. GPUS=1 pretends that
#   each node has one.
set -euo pipefail

install() {
  command -v slurmctld slurmd munged >/dev/null && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
}

start_munge() {
  munge -n >/dev/null 2>&1 && return
  command install -d -o munge -g munge -m 0755 /run/munge
  if [ ! -s /etc/munge/munge.key ]; then
    dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none
    chown munge: /etc/munge/munge.key
    chmod 400 /etc/munge/munge.key
  fi
  # A daemon of the machine, which stays: without the mark of processes that tests started.
  env -u LIGHTCLUSTER_TESTS setpriv --reuid munge --regid munge --init-groups /usr/sbin/munged
}

start() {
  local dir nodes=${2:-2} host cpus memory
  dir=$(realpath -m "$1")
  host=$(hostname -s)
  cpus=$(nproc)
  memory=$(( $(awk '/MemTotal/{print int($2/1024)}' /proc/meminfo) * 9 / 10 / nodes ))
  mkdir -p "$dir"/{state,log} /etc/slurm
  start_munge
  cat > "$dir/slurm.conf" <<CONF
ClusterName=onehost
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,sched_interval=5
MinJobAge=7200
KillWait=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
AccountingStorageType=accounting_storage/none
GresTypes=gpu
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  for i in $(seq "$nodes"); do
    mkdir -p "$dir/spool-n$i"
    echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((17000 + i)) CPUs=$cpus" \
      "RealMemory=$memory ${GPUS:+Gres=gpu:$GPUS} State=UNKNOWN" >> "$dir/slurm.conf"
  done
  : > "$dir/gres.conf"
  for i in $(seq "${GPUS:-0}"); do # copies of /dev/null that go by the name of a GPU
    [ -e "$dir/gpu$i" ] || mknod "$dir/gpu$i" c 1 3
    echo "Name=gpu File=$dir/gpu$i" >> "$dir/gres.conf"
  done
  # Jobs do not inherit SLURM_CONF, so the configuration has to be where they look.
  ln -sfn "$dir/slurm.conf" /etc/slurm/slurm.conf
  ln -sfn "$dir/gres.conf" /etc/slurm/gres.conf
  slurmctld
  for i in $(seq "$nodes"); do slurmd -N "n$i"; done
  for _ in $(seq 100); do
    [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l)" = "$nodes" ] && return
    sleep 0.1
  done
  sinfo
  tail -n 20 "$dir"/log/*
  return 1
}

stop() {
  local dir
  dir=$(realpath -m "$1")
  for file in "$dir"/slurmctld.pid "$dir"/slurmd-*.pid; do
    [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null || true
  done
  # With a slurm.conf and no slurmctld, every start of snakemake waits 10 s.
  for link in slurm.conf gres.conf; do
    case "$(readlink "/etc/slurm/$link")" in "$dir"/*) rm -f "/etc/slurm/$link" ;; esac
  done
}

"$@"
