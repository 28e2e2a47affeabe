package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// deepTree is a source whose nodes fill several frames: directories in several levels, files of many chunks, hard links and attributes
// that have blobs of their own.
func deepTree(w *world) *churn {
	src := newChurn(w.t, w.mkdir("source"))
	src.write("long", 12<<20)
	for i := range 12 {
		src.files(fmt.Sprintf("a%d/b/c/d", i), 150)
		src.files(fmt.Sprintf("a%d/b", i), 150)
	}
	for i := range 300 {
		from, to := fmt.Sprintf("a%d/b/%d/%d", i%12, i%7, i%150), fmt.Sprintf("links/%d/%d", i%9, i)
		os.MkdirAll(filepath.Dir(filepath.Join(src.dir, to)), 0o755)
		os.Link(filepath.Join(src.dir, from), filepath.Join(src.dir, to)) // not every number is a name
	}
	for _, name := range []string{"a3/b", "a4/b/c/d/1/1", "long"} {
		unix.Setxattr(filepath.Join(src.dir, name), "user.large", []byte(strings.Repeat(name, 300)), 0) // where it can be
	}
	return src
}

// entries lists a tree with hard links, attributes and owners, beside sums.
func entries(t testing.TB, dir string) string {
	t.Helper()
	return sums(t, dir) + sh(t, dir, `find . -printf '%P %n %U %G\n' | sed 1d | sort; find . -print0 | sort -z | xargs -0 getfattr -h -d -m user -- 2>/dev/null || true`)
}

// restoredEntries restores a snapshot and lists it with everything.
func (w *world) restoredEntries(snap string) string {
	w.t.Helper()
	out := w.path("restored")
	defer os.RemoveAll(out)
	w.do(0, "restore", snap, "--to", out)
	return entries(w.t, out)
}

// flipAll inverts a byte of each frame of a volume that the newest snapshot of an undamaged store needs.
func (v volumeFile) flipAll(w *world, list []needed) {
	done := map[int64]bool{}
	for _, n := range list {
		for _, at := range v.middles([]needed{n}, n.path) {
			if !done[at] {
				v.flip(w.t, at)
			}
			done[at] = true
		}
	}
	w.t.Logf("%d frames in a volume of %d bytes", len(done), v.size)
}

// TestNextBackupHealsNodes destroys all nodes of a snapshot but its manifest: the next backup of the unchanged source encodes them anew,
// and the snapshot is whole.
func TestNextBackupHealsNodes(t *testing.T) {
	w := newWorld(t)
	src := deepTree(w)
	first := w.backup(0, "d", src.dir).Snapshot
	nodes, list := w.largest("metadata"), neededPlaces(t, w)
	second := "d@" + w.backup(0, "d", src.dir).Name
	want := entries(t, src.dir)
	nodes.flipAll(w, list)
	s := w.backup(0, "d", src.dir)
	if s.Errors != 0 {
		t.Errorf("%+v", s)
	}
	for _, snap := range []string{second, "d@" + s.Name} {
		differ(t, snap, want, w.restoredEntries(snap))
	}
	for line := range strings.Lines(w.do(4, "verify", "--data", "--json").stdout) {
		if strings.Contains(line, `"healed":false`) && !strings.Contains(line, `"blob":"`+first+`"`) {
			t.Errorf("more is lost than the first manifest: %s", line)
		}
	}
}
