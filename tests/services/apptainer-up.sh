#!/usr/bin/env bash
# Unpacks a real Apptainer beside the system (Debian packages it in sid only) and prints the folder of its program.
# Needs root for what it installs of this Debian; idempotent. State under $SERVICES_HOME.
set -euo pipefail
home=${SERVICES_HOME:-/var/lib/agentpipe-services}/apptainer
bin=$home/root/usr/bin
mkdir -p "$home"
exec 9>"$home/lock"; flock 9
if [ -x "$bin/apptainer" ]; then echo "$bin"; exit 0; fi
# newuidmap for --fakeroot; mksquashfs for .sif
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends patchelf squashfs-tools uidmap >/dev/null

# packages of sid, by lists of our own: the system's stay as they are
# shellcheck disable=SC2016  # apt's own variable
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
key=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$home"/apt/{lists,cache/archives}/partial "$home/debs"
echo "deb [signed-by=$key] $mirror sid main" >"$home/apt/sources"
own=(-o "Dir::Etc::sourcelist=$home/apt/sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$home/apt/lists"
  -o "Dir::Cache=$home/apt/cache" -o APT::Sandbox::User=root)
apt-get "${own[@]}" update -qq
rm -rf "$home/new"
(cd "$home/debs" && apt-get "${own[@]}" download -qq apptainer libc6 libseccomp2 libsqlite3-0)
for each in "$home"/debs/*.deb; do dpkg -x "$each" "$home/new"; done

# It is linked with sid's libc, and looks for its own files beside itself.
libraries=$home/root/usr/lib/x86_64-linux-gnu
for each in "$home/new/usr/bin/apptainer" "$home/new/usr/lib/x86_64-linux-gnu/apptainer/bin/starter"; do
  patchelf --set-interpreter "$libraries/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$libraries" "$each"
done
ln -s ../etc "$home/new/usr/etc"
ln -s ../../etc "$home/new/usr/lib/etc"
mkdir -p "$home/new/usr/lib/var/lib/apptainer/mnt/session"
chmod -R a+rX "$home/new"
mv -T "$home/new" "$home/root"
rm -rf "$home/debs" "$home/apt"
echo "$bin"
