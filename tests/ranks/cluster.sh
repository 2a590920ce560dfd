# Sourced after common.sh: a Slurm of one node in $folder/slurm, for whoever runs the test.
#
#   start_cluster      # or skips the test
#   sbatch ...; srun ...
#
# It has its own key and socket of munge, listens on ports of 127.0.0.1 that were free, has 16 CPUs and four GPUs by
# its word, and ends with the test (common.sh: started).

pick_port() { # one that nobody listens on
    while :; do
        port=$(shuf -i 20000-30000 -n 1)
        grep -qi ":$(printf %04x "$port") " /proc/net/tcp /proc/net/tcp6 2>/dev/null || break
    done
    echo "$port"
}

write_slurm_conf() {
    cat >slurm/gres.conf <<END
Name=gpu File=$folder/slurm/gpu[0-3]
END
    # Slurm looks for cgroups although nothing here uses them; where they are not mounted it would not start.
    echo "CgroupPlugin=cgroup/v1" >slurm/cgroup.conf
    cat >slurm/slurm.conf <<END
ClusterName=tandem
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$(pick_port)
SlurmdPort=$(pick_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/slurm/munge/socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/slurm/state
SlurmdSpoolDir=$folder/slurm/spool
SlurmctldPidFile=$folder/slurm/slurmctld.pid
SlurmdPidFile=$folder/slurm/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
KillWait=15
GresTypes=gpu
NodeName=node NodeHostname=$(hostname) NodeAddr=127.0.0.1 CPUs=16 Gres=gpu:4
PartitionName=all Nodes=node Default=YES
END
}

wait_until() { # SECONDS WHAT COMMAND...
    tenths=$(($1 * 10)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        tenths=$((tenths - 1))
        [ $tenths -gt 0 ] || fail "waited in vain: $what"
        sleep 0.1
    done
}

is_idle() {
    [ "$(sinfo --noheader --format=%T)" = idle ]
}

# Tasks that still run (the test failed) are not children of ours: Slurm must end them.
stop_launcher() {
    [ -n "${SLURM_CONF:-}" ] || return 0
    for job in $(squeue --noheader --format=%i 2>/dev/null); do
        scancel --signal=KILL --full "$job" 2>/dev/null
        scancel "$job" 2>/dev/null
    done
    tenths=100
    while [ -n "$(squeue --noheader 2>/dev/null)" ] && [ $tenths -gt 0 ]; do
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

start_cluster() {
    PATH=$PATH:/usr/sbin:/sbin
    for program in munged slurmctld slurmd sbatch srun; do
        command -v $program >/dev/null ||
            skip "$program is missing (Debian: slurmctld slurmd slurm-client munge)"
    done
    chmod 755 "$folder"
    mkdir -p slurm/munge slurm/state slurm/spool
    head -c 128 /dev/urandom >slurm/munge.key
    chmod 600 slurm/munge.key
    for gpu in 0 1 2 3; do
        ln -s /dev/null slurm/gpu$gpu # Slurm wants devices, and nobody opens them
    done
    write_slurm_conf
    export SLURM_CONF="$folder/slurm/slurm.conf"
    munged --foreground --force --key-file=slurm/munge.key --socket="$folder/slurm/munge/socket" \
        --pid-file="$folder/slurm/munge/pid" --log-file="$folder/slurm/munge/log" \
        --seed-file="$folder/slurm/munge/seed" >slurm/munged.log 2>&1 &
    started="$started $!"
    wait_until 60 "munge's socket" test -S slurm/munge/socket
    slurmctld -D >slurm/slurmctld.log 2>&1 &
    started="$started $!"
    slurmd -D -N node >slurm/slurmd.log 2>&1 &
    started="$started $!"
    wait_until 120 "Slurm's node" is_idle
}
