#!/usr/bin/env bash
# The main job from end to end: an encrypted store, two snapshots of a real tree, both seen in a mount, a file copied out
# of it, a restore, each compared with the source. Leaves nothing behind.
#
# usage: try.sh SNAPFS    SNAPFS_TRY_SOURCE names another tree than the part of /usr that is taken by default
set -euo pipefail

snapfs=$(realpath "$1")

# need TOOL PACKAGE: says what to install, all of it at once.
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need fusermount3 fuse3
need cmp diffutils
need mountpoint util-linux
if [ ${#missing[@]} -gt 0 ]; then
  echo "try: missing here, install with: apt-get install ${missing[*]}" >&2
  exit 1
fi
if [ ! -c /dev/fuse ]; then
  echo "try: there is no /dev/fuse: load the kernel module (modprobe fuse) or run where FUSE is allowed" >&2
  exit 1
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/snapfs-try.XXXXXX")
tree=$dir/tree mnt=$dir/mnt

clean() {
  status=$?
  trap - EXIT
  if mountpoint -q "$mnt"; then
    "$snapfs" umount "$mnt" || "$snapfs" umount --lazy "$mnt" || umount -l "$mnt" || true
  fi
  chmod -R u+rwX "$dir" 2>/dev/null || true
  rm -rf "$dir"
  [ $status = 0 ] || echo "try: failed with exit code $status" >&2
  exit $status
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

# step WHAT COMMAND...: runs it and says how long it took.
step() {
  local what=$1 from to
  shift
  from=$(date +%s%N)
  "$@"
  to=$(date +%s%N)
  printf '  %8s s  %s\n' "$(printf '%d.%03d' $(((to - from) / 1000000000)) $(((to - from) / 1000000 % 1000)))" "$what"
}

same() { # two trees, with everything rsync can see, or their contents and types where there is no rsync
  local differences
  if command -v rsync >/dev/null; then
    differences=$(rsync -aHAXnc --delete --itemize-changes "$1/" "$2/")
    [ -z "$differences" ] || { echo "$differences" | head -20 >&2; echo "try: $1 and $2 differ" >&2; return 1; }
  else
    diff -r --no-dereference "$1" "$2"
  fi
}

source=${SNAPFS_TRY_SOURCE:-}
for candidate in /usr/include /usr/share/doc /usr/lib/python3 "$(go env GOROOT 2>/dev/null)/src" /usr/share; do
  [ -n "$source" ] && break
  if [ -d "$candidate" ] && [ "$(find "$candidate" -xdev -type f 2>/dev/null | wc -l)" -ge 200 ]; then
    source=$candidate
  fi
done

mkdir "$tree" "$mnt"
cp -a "$source/." "$tree/"
printf 'first\n' >"$tree/try.txt"
entries=$(find "$tree" -mindepth 1 | wc -l)
size=$(du -sm --apparent-size "$tree" | cut -f1)

export SNAPFS_STORE=$dir/store SNAPFS_PASSWORD='only for this try'
quiet() { "$snapfs" --quiet "$@" >/dev/null; }

echo "a copy of $source: $entries entries, $size MiB"
step "init: an encrypted store" quiet init
step "backup: first snapshot" quiet backup "$tree" --dataset try
first=$("$snapfs" snapshots --json | grep -o '"name":"[^"]*"' | cut -d'"' -f4)

sleep 1 # so that the second snapshot has another second in its name
printf 'second\n' >"$tree/try.txt"
printf 'new\n' >"$tree/new.txt"
rm -rf "$(find "$tree" -mindepth 1 -maxdepth 1 -type d | sort | tail -1)"
step "backup: second snapshot, after a change" quiet backup "$tree" --dataset try

step "mount" quiet mount "$mnt" -d
show() { ls "$mnt/try" >/dev/null; }
step "ls of the mount" show
[ "$(cat "$mnt/try/$first/try.txt")" = first ] && [ ! -e "$mnt/try/$first/new.txt" ]
[ "$(cat "$mnt/try/latest/try.txt")" = second ] && [ -e "$mnt/try/latest/new.txt" ]
echo "              both points in time are there: $(ls "$mnt/try" | tr '\n' ' ')"

largest=$(cd "$tree" && find . -type f -printf '%s %P\n' | sort -n | tail -1 | cut -d' ' -f2-)
step "copy $largest out of the mount" cp "$mnt/try/latest/$largest" "$dir/copy"
cmp "$dir/copy" "$tree/$largest"
step "compare the newest snapshot in the mount with the tree" same "$tree" "$mnt/try/latest"

step "restore: newest snapshot" quiet restore try --to "$dir/restored"
step "compare the restored tree with the tree" same "$tree" "$dir/restored"
step "umount" quiet umount "$mnt"
! mountpoint -q "$mnt"

"$snapfs" snapshots
"$snapfs" stats | grep -E '^(contents|stored)'
echo "everything was equal; $dir is removed"
