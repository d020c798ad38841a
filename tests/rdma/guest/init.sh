#!/bin/sh
# First process of a machine: brings up both networks and Soft-RoCE on the first of them, then runs
# the script of its role. ROLE and N come from the kernel's command line.
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
exec >/dev/ttyS1 2>&1 </dev/null

for module in /modules/*; do
  insmod "$module" || echo "cannot load $module"
done

# 10.1.0.0/24 is for RoCE; frames hold its largest packets, of 4,096 bytes and their headers.
ip link set lo up
ip link set eth0 mtu 4500 up
ip link set eth1 up
ip addr add "10.1.0.$((N + 1))/24" dev eth0
ip addr add "10.2.0.$((N + 1))/24" dev eth1
rdma link add rxe0 type rxe netdev eth0
gids=/sys/class/infiniband/rxe0/ports/1/gids
gid=
until [ -n "$gid" ]; do
  # RoCE version 2 over IPv4 is the entry that holds an IPv4 address.
  gid=$(grep -l '0000:0000:0000:0000:0000:ffff:' $gids/* 2>/dev/null | head -n 1)
  usleep 100000
done
for network in 1 2; do
  until ping -c 1 -W 1 "10.$network.0.$((2 - N))" >/dev/null 2>&1; do usleep 100000; done
done

# shellcheck disable=SC3045 # busybox's shell has it
ulimit -l unlimited
export OWN_DATA="10.1.0.$((N + 1))" STORE_DATA=10.1.0.1 STORE_PLAIN=10.2.0.1
# No TCP: what UCX carries goes over the RDMA device or not at all.
export UCX_TLS=rc UCX_NET_DEVICES=rxe0:1 UCX_IB_GID_INDEX="${gid##*/}"
# On a busy host a machine may stand still for seconds, which must not count as a lost peer.
export UCX_RC_TIMEOUT=4s
# UCX compares a field of UD packets that Soft-RoCE leaves empty, and would drop them all.
export UCX_UD_VERBS_ETH_DGID_CHECK=n
sh "/guest/$ROLE.sh"
echo "@end $?"
sleep 1000000
