package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	if said := w.through(1, id, scratch, append(one, two)...); !strings.Contains(said, "wrong order of volumes") {
		t.Error(said)
	}
	if _, err := os.Stat(w.path("restored")); err == nil {
		t.Error("something was made")
	}
	w.through(0, id, w.mkdir("large"), append(one, two)...)
	sh(t, w.dir, `diff -r src restored && rm -r restored`)
	reversed := []string{two}
	for i := len(one) - 1; i >= 0; i-- { // once it is known what is needed, any order will do
		reversed = append(reversed, one[i])
	}
	w.through(0, id, scratch, reversed...)
	sh(t, w.dir, `diff -r src restored && rm -r restored; test -z "$(ls -A large)"`)
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
