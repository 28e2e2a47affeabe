package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// archived is a store that was archived day by day and then lost: a full set, six incremental ones and a differential.
type archived struct {
	*world
	out     string   // directory of volumes
	sets    []string // names, by day
	ids     []string // snapshots, by day
	sources []string // what each held
}

// changes is what happens to the source on a day.
const changes = `set -e
mkdir -p src/d$1/sub
for i in $(seq 25); do head -c $((i * 977 + $1 * 13)) /dev/urandom > src/d$1/f$i; done
head -c 700000 /dev/urandom > src/d$1/sub/big
for i in $(seq 60); do echo "file $i of day $1" > src/d$1/sub/small$i; done
echo "day $1" >> src/log
ln src/d$1/f1 src/d$1/link
ln -s f2 src/d$1/symlink
truncate -s 3000000 src/d$1/hole
if [ $1 -gt 0 ]; then
	rm -r src/d$(($1 - 1))/sub/small1*
	mv src/d$(($1 - 1))/sub/big src/moved$1
	printf changed | dd of=src/moved$1 bs=1 seek=300000 conv=notrunc status=none
fi
cp -a src day$1`

func newArchived(t *testing.T, create ...string) *archived {
	a := &archived{world: newWorld(t)}
	a.out = a.mkdir("out")
	a.mkdir("src")
	for day := range 8 {
		sh(t, a.dir, changes, fmt.Sprint(day))
		a.ids = append(a.ids, strings.TrimSpace(a.do(0, "backup", a.path("src"), "--dataset", "data", "--quiet").stdout))
		level := "incremental"
		switch day {
		case 0:
			level = "full"
		case 7:
			level = "differential"
		}
		name := fmt.Sprintf("day%d-%s", day, level)
		a.do(0, append([]string{"archive", "create", a.ids[day], "--to", a.out, "--set", name, "--level", level}, create...)...)
		a.sets, a.sources = append(a.sets, name), append(a.sources, a.path(fmt.Sprintf("day%d", day)))
	}
	if err := os.RemoveAll(a.store); err != nil {
		t.Fatal(err)
	}
	return a
}

// needs are the sets that a day's snapshot needs, newest first.
func (a *archived) needs(day int) []string {
	if day == 7 {
		return []string{a.sets[7], a.sets[0]}
	}
	needed := slices.Clone(a.sets[:day+1])
	slices.Reverse(needed)
	return needed
}

// volumes are those of a set, in order, without those of parity.
func (a *archived) volumes(set string) []string {
	list, err := filepath.Glob(filepath.Join(a.out, set+"-0*.snapfs"))
	if err != nil || len(list) == 0 {
		a.t.Fatalf("volumes of %s: %v", set, err)
	}
	return list
}

// treeSums lists all that is below a directory: content, names, links, modes, times.
const treeSums = `cd "$1" && find . -type f -exec sha256sum {} + | sort -k2 && find . ! -name . -printf '%P|%y|%m|%U|%G|%l|%n|' \( -type d -printf '\n' -o -printf '%T+|%s\n' \) | sort`

func (a *archived) sameAs(day int, restored string) {
	a.t.Helper()
	differ(a.t, fmt.Sprintf("day %d", day), sh(a.t, a.dir, treeSums, a.sources[day]), sh(a.t, a.dir, treeSums, restored))
}

// TestArchiveProof restores every snapshot from bare volumes, with nothing but the key.
func TestArchiveProof(t *testing.T) {
	a := newArchived(t, "--volume-size", "2M")
	for day, id := range a.ids {
		to := a.path("from-directory")
		a.do(0, "archive", "restore", id, "--from", a.out, "--to", to)
		a.sameAs(day, to)
		os.RemoveAll(to)
	}
	for day, id := range a.ids { // through pipes
		var volumes []string
		for _, set := range a.needs(day) {
			volumes = append(volumes, a.volumes(set)...)
		}
		to := a.path("from-pipe")
		cmd := a.command("bash", append([]string{"-c", `set -e; snapfs=$1 id=$2 to=$3; shift 3; cat "$@" | "$snapfs" archive restore "$id" --from - --to "$to"`, "-", snapfs, id, to}, volumes...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("day %d: %v\n%s", day, err, out)
		}
		a.sameAs(day, to)
		os.RemoveAll(to)
	}
	a.do(0, "archive", "verify", a.out)
}

// TestArchiveLostVolumes loses two volumes of the full set; two parity volumes bring them back.
func TestArchiveLostVolumes(t *testing.T) {
	a := newArchived(t, "--volume-size", "2M", "--parity-volumes", "2", "--parity-dir", filepath.Join(t.TempDir()))
	full := a.volumes(a.sets[0])
	if len(full) < 2 {
		full = append(full, a.volumes(a.sets[1])[0])
	}
	for _, v := range full[:2] {
		if err := os.Remove(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, day := range []int{0, 3, 7} {
		to := a.path("restored")
		a.do(0, "archive", "restore", a.ids[day], "--from", a.out, "--to", to)
		a.sameAs(day, to)
		os.RemoveAll(to)
	}
}

// TestArchiveRestoreKilled is killed again and again, and run again.
func TestArchiveRestoreKilled(t *testing.T) {
	a := newArchived(t, "--volume-size", "2M")
	to := a.path("restored")
	for i := range 12 {
		args := []string{"archive", "restore", a.ids[6], "--from", a.out, "--to", to}
		j := a.start(args...)
		time.Sleep(time.Duration(i*i) * 2 * time.Millisecond)
		j.Process.Kill()
		j.wait()
	}
	a.do(0, "archive", "restore", a.ids[6], "--from", a.out, "--to", to)
	a.sameAs(6, to)
	if left := sh(t, a.dir, `find "$1" "$2" -name '.snapfs-*'`, to, a.tmp()); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// TestArchiveOnDevice reads a set from a block device that held other things before.
func TestArchiveOnDevice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	a := newArchived(t)
	image := a.path("image")
	sh(t, a.dir, `cat "$2" > "$1"; cat "$3" >> "$1"; truncate -s 64M "$1"; dd if="$2" of="$1" conv=notrunc status=none`, image, a.volumes(a.sets[0])[0], a.volumes(a.sets[1])[0])
	out, err := exec.Command("losetup", "--find", "--show", "--read-only", image).Output()
	if err != nil {
		t.Skipf("no loop device: %v", err)
	}
	device := strings.TrimSpace(string(out))
	defer func() {
		if err := exec.Command("losetup", "-d", device).Run(); err != nil {
			t.Error(err)
		}
	}()
	to := a.path("restored")
	a.do(0, "archive", "restore", a.ids[0], "--from", device, "--to", to)
	a.sameAs(0, to)
}
