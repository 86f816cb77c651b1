#!/bin/busybox sh
# First process of the guest: mount what is needed, insert modules if the kernel takes any, start the agent.
# shellcheck shell=dash
export PATH=/usr/bin:/usr/sbin:/busybox HOME=/root USER=root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev
$B ln -s /proc/self/fd /dev/fd
$B mount -t tmpfs tmpfs /tmp
$B mkdir /busybox
$B --install -s /busybox
if [ -e /proc/modules ]; then
    for module in /modules/*.ko; do
        insmod "$module" || echo "init: $module cannot be inserted"
    done
fi
rm -rf /modules
plan9=trans=virtio,version=9p2000.L,msize=262144,cache=none
mount -t 9p -o $plan9 ctl /ctl
mount -t 9p -o $plan9 share /share
mount -t ext4 -o user_xattr,acl /dev/vda /scratch
cd /root || reboot -f
python3 /ctl/agent.py
echo "init: the agent ended"
reboot -f
