#!/bin/sh
# Makes a frozen store: freeze.sh SNAPFS DIR. Run once for each version of the format, as root, where FUSE works; what it made is
# never made again. DIR gets the store without its index, a key file and a password that open it, what ls says of every
# snapshot, and the sums of the files. The last snapshot lies in volumes that a killed process left open.
set -eu
snapfs=$1 out=$2
work=/tmp/snapfs-freeze
mkdir "$work"
trap 'rm -rf "$work"' EXIT
export SNAPFS_STORE="$out/store" SNAPFS_KEY_FILE="$out/key" XDG_STATE_HOME="$work/state" TZ=UTC LC_ALL=C.UTF-8
umask 022
printf 'frozen password\n' >"$out/password"
"$snapfs" init --new-key-file "$out/key" --chunk-average 16K
"$snapfs" key add --new-password-file "$out/password" --label second

src=$work/source
mkdir -p "$src/etc" "$src/many" "$src/empty"
printf 'first\n' >"$src/etc/hosts"
: >"$src/etc/nothing"
awk 'BEGIN { srand(1); for (i = 0; i < 40000; i++) printf "%06d%c", rand() * 1000000, i % 7 ? 32 : 10 }' >"$src/large"
truncate -s 64M "$src/sparse"
printf 'in the middle' | dd of="$src/sparse" bs=1 seek=50000000 conv=notrunc status=none
for i in $(seq 700); do : >"$src/many/file-$i"; done
ln "$src/etc/hosts" "$src/many/linked"
ln -s ../etc/hosts "$src/empty/symlink"
ln -s nowhere "$src/dangling"
mkfifo "$src/fifo"
printf 'x' >"$src/$(printf 'caf\351 \\ "q"')"
chmod 0 "$src/etc/nothing"
chmod 4755 "$src/large"
chmod 1777 "$src/many"
python3 - "$src" <<'PY'
import os, sys
src = sys.argv[1]
os.setxattr(src + "/etc/hosts", "user.note", b"a\0b")
os.setxattr(src + "/etc", "user.long", b"v" * 2000)
os.utime(src + "/dangling", ns=(-1, -1234567891), follow_symlinks=False)
os.utime(src + "/large", ns=(0, 4294967296123456789))
PY
"$snapfs" backup --quiet --host frozen --dataset tree --tag first "$src"
"$snapfs" tag tree --add kept

printf 'second\n' >"$src/etc/hosts"
rm "$src/many/file-350"
printf 'new' >"$src/many/new"
"$snapfs" backup --quiet --host frozen --dataset tree "$src"
printf 'a stream\n' | "$snapfs" backup --quiet --host frozen --dataset stream --stdin stream.txt

mkdir "$work/mnt"
"$snapfs" mount "$work/mnt" & holder=$!
until mountpoint -q "$work/mnt"; do sleep 0.1; done
printf 'third\n' >"$src/etc/third"
"$snapfs" backup --quiet --host frozen --dataset tree "$src"
kill -9 $holder
umount -l "$work/mnt"

"$snapfs" snapshots --json >"$out/snapshots.json"
mkdir "$out/snapshots"
python3 -c '
import json, sys
for s in json.load(open(sys.argv[1])): print(s["dataset"] + "@" + s["name"])' "$out/snapshots.json" | while read -r name; do
	"$snapfs" ls -lR --json "$name" >"$out/snapshots/$name.ls"
	"$snapfs" restore --quiet "$name" --to "$work/restored"
	(cd "$work/restored" && find . -type f -print0 | sort -z | xargs -0 sha256sum -z | tr '\0' '\n') >"$out/snapshots/$name.sums"
	rm -rf "$work/restored"
done
rm -rf "$out/store/index" "$out/store/lock" "$out/store/snapfs.sock" "$out/store/keys/lock"
