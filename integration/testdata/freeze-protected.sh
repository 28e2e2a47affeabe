#!/bin/sh
# Makes a frozen store with parity, and the archive sets made of it: freeze-protected.sh SNAPFS DIR. Run once for each version of the
# format; what it made is never made again. DIR gets the store without its index, a key file and a password that open it, a full and an
# incremental archive set with a volume of parity each, what ls says of every snapshot, and the sums of the files.
set -eu
snapfs=$1 out=$2
work=/tmp/snapfs-freeze
mkdir "$work" "$work/archive"
trap 'rm -rf "$work"' EXIT
mkdir -p "$out/snapshots"
export SNAPFS_STORE="$out/store" SNAPFS_KEY_FILE="$out/key" XDG_STATE_HOME="$work/state" TZ=UTC LC_ALL=C.UTF-8
umask 022
printf 'frozen password\n' >"$out/password"
"$snapfs" init --new-key-file "$out/key" --chunk-average 16K
"$snapfs" key add --new-password-file "$out/password" --label second

src=$work/source
mkdir -p "$src/etc" "$src/many" "$src/empty"
printf 'first\n' >"$src/etc/hosts"
awk 'BEGIN { srand(2); for (i = 0; i < 5000; i++) printf "%06d%c", rand() * 1000000, i % 7 ? 32 : 10 }' >"$src/large"
truncate -s 3M "$src/sparse"
printf 'in the middle' | dd of="$src/sparse" bs=1 seek=2000000 conv=notrunc status=none
for i in $(seq 80); do echo "$i" >"$src/many/file-$i"; done
ln "$src/etc/hosts" "$src/many/linked"
ln -s ../etc/hosts "$src/empty/symlink"
mkfifo "$src/fifo"
chmod 4755 "$src/large"
"$snapfs" backup --quiet --host frozen --dataset tree --time 2026-11-01T12:00:00 "$src"
"$snapfs" archive create --quiet --to "$work/archive" --set first --parity-volumes 1 --parity-dir "$work/archive"
printf 'second\n' >"$src/etc/hosts"
rm "$src/many/file-35"
awk 'BEGIN { srand(3); for (i = 0; i < 1000; i++) printf "%06d ", rand() * 1000000 }' >"$src/many/new"
"$snapfs" backup --quiet --host frozen --dataset tree --time 2026-11-02T12:00:00 "$src"
"$snapfs" archive create --quiet --to "$work/archive" --set second --parity-volumes 1 --parity-dir "$work/archive"

"$snapfs" snapshots --json >"$out/snapshots.json"
for name in tree@2026-11-01_12-00-00 tree@2026-11-02_12-00-00; do
	"$snapfs" ls -lR --json "$name" >"$out/snapshots/$name.ls"
	"$snapfs" restore --quiet "$name" --to "$work/restored"
	(cd "$work/restored" && find . -type f -print0 | sort -z | xargs -0 sha256sum -z | tr '\0' '\n') >"$out/snapshots/$name.sums"
	rm -rf "$work/restored"
done
mv "$work/archive" "$out/"
rm -rf "$out/store/index" "$out/store/lock" "$out/store/snapfs.sock" "$out/store/keys/lock"
