package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// above are the times of the directories above one: a manifest holds them, and others may change them at any time.
func above(t testing.TB, dir string) string {
	t.Helper()
	list := ""
	for dir != "/" {
		dir = filepath.Dir(dir)
		list += sh(t, "/", `stat -c '%n %z %y' "$1"`, dir)
	}
	return list
}

// TestRepairFromUnchangedSource destroys what parity cannot bring back, without parity and with, the volumes of all nodes with it: a
// source that is as it was gives everything back, also when nobody knows any more which nodes there were.
func TestRepairFromUnchangedSource(t *testing.T) {
	const burst = `for f in "$@"; do s=$(($(stat -c %s $f) / 4096)); dd if=/dev/zero of=$f bs=4096 seek=$((s / 10)) count=$((s * 6 / 10)) conv=notrunc status=none; done`
	for _, damage := range []struct{ name, parity, script string }{
		{"each frame of nodes", "0", ""},
		{"burst in the nodes", "3", `set -- $1; ` + burst},
		{"burst in nodes and chunks", "0", burst},
		{"volume of nodes gone", "3", `rm $1`},
		{"volume and index gone", "0", `rm -r $1 store/index`},
	} {
		t.Run(damage.name, func(t *testing.T) {
			for try := 1; ; try++ {
				w := worldAt(t, t.TempDir())
				w.init("--parity", damage.parity)
				if w.repairsUnchanged(t, damage.script) {
					return
				}
				if try == 5 {
					t.Skip("the directories above change all the time")
				}
			}
		})
	}
}

// repairsUnchanged reports false if a manifest could not come back because a directory above the source changed.
func (w *world) repairsUnchanged(t *testing.T, script string) bool {
	src := deepTree(w)
	want, times := entries(t, src.dir), above(t, src.dir)
	first := "d@" + w.backup(0, "d", src.dir).Name
	nodes, data, list := w.largest("metadata"), w.largest("data"), neededPlaces(t, w)
	second := "d@" + w.backup(0, "d", src.dir).Name
	if script == "" {
		nodes.flipAll(w, list)
	} else {
		sh(t, w.dir, script, nodes.path, data.path)
	}
	o := w.start("verify", "--repair", "--from-source").wait()
	if above(t, src.dir) != times {
		return false
	}
	if o.code == 4 && strings.Contains(o.stderr, "another 'snapfs verify --repair'") { // a volume as such is not whole, or not there
		o = w.start("verify", "--repair").wait()
	}
	if o.code != 0 {
		t.Errorf("exit code %d: %s%s", o.code, tail(o.stdout), tail(o.stderr))
	}
	w.do(0, "verify", "--data")
	for _, snap := range []string{first, second} {
		differ(t, snap, want, w.restoredEntries(snap))
	}
	return true
}

// TestRepairFromChangedSource destroys the nodes of all levels below a root, and changes a part of the source: what is as it was comes
// back, the rest is named path by path, and what comes back is what was saved.
func TestRepairFromChangedSource(t *testing.T) {
	w := worldAt(t, t.TempDir())
	w.init("--parity", "0")
	src := deepTree(w)
	w.backup(0, "d", src.dir)
	nodes, data, list := w.largest("metadata"), w.largest("data"), neededPlaces(t, w)
	src.write("new", 1000)
	s := w.backup(0, "d", src.dir) // its root and its manifest lie elsewhere
	want := sums(t, src.dir)
	nodes.flipAll(w, list)
	data.flipIn(t, list, "/a1/b/c/d/1/1")
	data.flipEveryThird(t, list, "/long")
	src.write("a7/b/c/d/2/2", 500)
	os.RemoveAll(filepath.Join(src.dir, "a8/b/c/d/3"))
	src.write("a9/b/new", 500)
	got := map[string]bool{}
	for line := range strings.Lines(w.do(4, "verify", "--repair", "--from-source", "--json").stdout) {
		var f struct{ Event, Snapshots, Paths any }
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if ids, _ := f.Snapshots.([]any); slices.Contains(ids, any(s.Snapshot)) {
			for _, path := range f.Paths.([]any) {
				got[path.(string)] = true
			}
		}
	}
	samePaths(t, "verify", map[string]bool{"/a7": true, "/a8": true, "/a9": true}, got)
	o := w.do(4, "restore", "--json", "d@"+s.Name, "--to", w.path("out"))
	lost := reported(t, o, w.path("out"))
	samePaths(t, "restore", got, slashed(lost))
	var whole strings.Builder
	for line := range strings.Lines(want) {
		if name, _, _ := strings.Cut(line, " "); !under(name, lost) {
			whole.WriteString(line)
		}
	}
	os.RemoveAll(w.path("out/a7"))
	os.RemoveAll(w.path("out/a8"))
	os.RemoveAll(w.path("out/a9"))
	differ(t, "what came back", whole.String(), sums(t, w.path("out")))
}
