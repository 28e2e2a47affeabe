package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"snapfs/store/volume"
)

// through restores a snapshot from volumes that come through a pipe, with dir as scratch.
func (w *world) through(code int, snap, dir string, volumes ...string) string {
	w.t.Helper()
	args := append([]string{"-c", `snapfs=$1 to=$2 scratch=$3 snap=$4; shift 4; cat "$@" | "$snapfs" archive restore "$snap" --from - --to "$to" --scratch "$scratch"`, "-", snapfs, w.path("restored"), dir, snap}, volumes...)
	cmd := w.command("bash", args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != code {
		w.t.Fatalf("exit %d: %v\n%s", cmd.ProcessState.ExitCode(), err, out)
	}
	return string(out)
}

// TestArchivePipeSmallScratch restores tens of MiB through a pipe with 3 MiB of scratch; only a wrong order needs more.
func TestArchivePipeSmallScratch(t *testing.T) {
	needRoot(t)
	w := archiveSource(t, 24)
	out, scratch := w.mkdir("out"), w.mkdir("scratch")
	attachTmpfs(t, scratch, "3M")
	w.do(0, "archive", "create", "--to", out, "--set", "one", "--volume-size", "6M")
	sh(t, w.dir, `head -c 700000 /dev/urandom > src/more; rm src/big3; cp src/big4 src/big5`)
	id := strings.TrimSpace(w.do(0, "backup", w.path("src"), "--dataset", "data", "--quiet").stdout)
	w.do(0, "archive", "create", "--to", out, "--set", "two")
	one, err := filepath.Glob(filepath.Join(out, "one-0*"))
	if err != nil {
		t.Fatal(err)
	}
	two := filepath.Join(out, "two-0001.snapfs")
	w.through(0, id, scratch, append([]string{two}, one...)...)
	sh(t, w.dir, `diff -r src restored && rm -r restored`)
	said := w.through(1, id, scratch, append(one, two)...)
	if !strings.Contains(said, "wrong order of volumes") || !strings.Contains(said, "scratch cannot hold all that comes") {
		t.Error(said)
	}
	enough := regexp.MustCompile(`([0-9]+) MiB are enough`).FindStringSubmatch(said)
	if enough == nil {
		t.Fatal(said)
	}
	if _, err := os.Stat(w.path("restored")); err == nil {
		t.Error("something was made")
	}
	large := w.mkdir("large")
	attachTmpfs(t, large, enough[1]+"M")
	for _, snap := range []string{id, "data"} {
		w.through(0, snap, large, append(one, two)...)
		sh(t, w.dir, `diff -r src restored && rm -r restored`)
	}
	if said := w.through(0, "data", scratch, append([]string{two}, one...)...); !strings.Contains(said, "so it is read as it comes") {
		t.Error(said)
	}
	sh(t, w.dir, `diff -r src restored && rm -r restored`)
	if said := w.through(1, "data", scratch, append(one, two)...); !strings.Contains(said, "which is newer than") {
		t.Error(said)
	}
	sh(t, w.dir, `rm -r restored`)
	reversed := []string{two}
	for i := len(one) - 1; i >= 0; i-- { // once it is known what is needed, any order will do
		reversed = append(reversed, one[i])
	}
	w.through(0, id, scratch, reversed...)
	sh(t, w.dir, `diff -r src restored && rm -r restored; test -z "$(ls -A large)"`)
}

// TestArchivePipeDamageSmallScratch damages a volume in a pipe where scratch is too small to heal it: that is said, and what is whole comes.
func TestArchivePipeDamageSmallScratch(t *testing.T) {
	needRoot(t)
	w := archiveSource(t, 24)
	out, small, middle := w.mkdir("out"), w.mkdir("small"), w.mkdir("middle")
	attachTmpfs(t, small, "3M")
	attachTmpfs(t, middle, "16M")
	w.do(0, "archive", "create", "--to", out, "--set", "one")
	data, err := os.ReadFile(filepath.Join(out, "one-0001.snapfs"))
	if err != nil {
		t.Fatal(err)
	}
	_, head, err := volume.ReadLabel(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(at int) string {
		path := w.path(fmt.Sprint("damaged", at))
		hurt := bytes.Clone(data)
		hurt[at] ^= 1
		if err := os.WriteFile(path, hurt, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	chunk, first := damaged(len(data)/3), damaged(head+100) // a file; the head of the set
	if said := w.through(4, "data", small, chunk); !strings.Contains(said, "scratch has too little room to heal it in passing: 384 MiB are enough") {
		t.Error(said)
	}
	sh(t, w.dir, `test $(diff -rq src restored | wc -l) = 1 && rm -r restored`)
	if said := w.through(0, "data", middle, first); !strings.Contains(said, "scratch cannot hold all that comes, which is more than") ||
		!strings.Contains(said, "no space left on device") && !strings.Contains(said, "there is no room for it") {
		t.Error(said)
	}
	sh(t, w.dir, `diff -r src restored && rm -r restored`)
	w.through(0, "data", w.tmp(), chunk)
	sh(t, w.dir, `diff -r src restored`)
}

// TestArchivePipeRestoreKilled kills restores out of pipes, and runs them again.
func TestArchivePipeRestoreKilled(t *testing.T) {
	w := archiveSource(t, 24)
	out := w.mkdir("out")
	w.do(0, "archive", "create", "--to", out, "--set", "one")
	volume := filepath.Join(out, "one-0001.snapfs")
	for i := range 8 {
		sh(t, w.dir, `{ head -c "$3" "$2"; sleep 0.0$4; cat "$2" | tail -c +"$(($3 + 1))"; } | timeout -s KILL 0.$4 "$1" archive restore data --from - --to restored || true`,
			snapfs, volume, fmt.Sprint(i*3_000_000+100_000), fmt.Sprint(i+1))
	}
	w.through(0, "data", w.tmp(), volume)
	sh(t, w.dir, `diff -r src restored; test -z "$(find restored -name '.snapfs-*')"`)
}
