#!/bin/sh
# sh tests/bare.sh [FOLDER [MIRROR]]: both README commands on a bare Debian 12 machine.
#
# Makes a Debian 12 with nothing but its base system in FOLDER (debootstrap minbase; kept and used
# again), clones this repository's HEAD into it, and runs `sh tools/demo.sh` and `sh tools/test.sh`
# there, each timed, then each once more: the second run must install nothing. Must run as root.
# /proc and /dev are mounted in a namespace of the script's own: they are gone when it ends, and
# removing FOLDER removes nothing else. Needs: debootstrap, unshare.
set -eu
cd "$(dirname "$0")/.."
[ -n "${TANDEM_BARE_NAMESPACE:-}" ] ||
    exec env TANDEM_BARE_NAMESPACE=yes unshare --mount sh tests/bare.sh "$@"
folder=${1:-/var/tmp/tandem-bare}
mirror=${2:-http://deb.debian.org/debian}
[ -x "$folder/bin/sh" ] || debootstrap --variant=minbase bookworm "$folder" "$mirror"
cp -r /etc/apt/apt.conf.d /etc/apt/sources.list* "$folder/etc/apt/"
cp /etc/resolv.conf /etc/hosts "$folder/etc/" 2>/dev/null || true
for d in proc dev; do
    mount --rbind "/$d" "$folder/$d"
done
rm -rf "$folder/tandem"
git clone -q . "$folder/tandem"
for command in demo test demo test; do
    echo "== sh tools/$command.sh"
    start=$(date +%s)
    chroot "$folder" sh -c "cd /tandem && sh tools/$command.sh" || exit $?
    echo "== tools/$command.sh: $(($(date +%s) - start)) s"
done
