package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// volume is a file of the store, as its label describes it.
type volumeFile struct {
	path string
	kind string // data, metadata, journal
	size int64
}

// volumes lists those of a store, the largest first.
func volumes(t testing.TB, store string) []volumeFile {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(store, "volumes", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var list []volumeFile
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		label := make([]byte, 512)
		n, _ := io.ReadFull(f, label) // an empty one has no kind
		info, err := f.Stat()
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		v := volumeFile{path: path, size: info.Size()}
		for line := range strings.Lines(string(label[:n])) {
			if f := strings.Fields(line); len(f) == 2 && strings.HasPrefix(f[0], "kind") {
				v.kind = f[1]
			}
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b volumeFile) int { return int(b.size - a.size) })
	return list
}

// largest is the largest volume of a kind.
func (w *world) largest(kind string) volumeFile {
	w.t.Helper()
	for _, v := range volumes(w.t, w.store) {
		if v.kind == kind {
			return v
		}
	}
	w.t.Fatalf("no volume of kind %s", kind)
	return volumeFile{}
}

// flip inverts a byte.
func (v volumeFile) flip(t testing.TB, at int64) {
	t.Helper()
	f, err := os.OpenFile(v.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// stretch is a range of bytes of a volume.
type stretch struct{ from, to int64 }

// flipIn inverts a byte in the middle of the first frame that a path needs.
func (v volumeFile) flipIn(t testing.TB, list []needed, path string) stretch {
	t.Helper()
	at := v.middles(list, path)
	if len(at) == 0 {
		t.Fatalf("%s needs nothing of this volume", path)
	}
	v.flip(t, at[0])
	return stretch{at[0], at[0] + 1}
}

// middles are the middles of the frames of this volume that a path needs.
func (v volumeFile) middles(list []needed, path string) (at []int64) {
	for _, n := range list {
		for _, p := range n.places {
			if n.path == path && p.Volume.String() == filepath.Base(v.path) {
				at = append(at, p.Offset+int64(p.Stored)/2)
			}
		}
	}
	return at
}

// damagedTree is a source with two snapshots whose data stands in one volume.
func damagedTree(w *world) (src *churn, snap string) {
	src = newChurn(w.t, w.mkdir("source"))
	src.files("small", 1000)
	for i := range 8 {
		src.write(fmt.Sprintf("large/%d", i), 3<<20)
	}
	src.write("empty", 0)
	os.Symlink("nowhere", filepath.Join(src.dir, "link"))
	name := w.backup(0, "d", src.dir).Name
	return src, "d@" + name
}

// reported are the paths of the error events of a restore into dir, relative to it.
func reported(t testing.TB, o outcome, dir string) map[string]bool {
	t.Helper()
	paths := map[string]bool{}
	for lines := bufio.NewScanner(strings.NewReader(o.stdout)); lines.Scan(); {
		var s summary
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		if s.Event == "error" {
			paths[strings.TrimPrefix(strings.TrimPrefix(s.Path, dir), "/")] = true
			if s.Error == "" {
				t.Errorf("no reason for %s", s.Path)
			}
		}
	}
	return paths
}

// TestDamage damages the data: restore names the files that cannot be had, and brings all others; the mount gives EIO
// for just those.
func TestDamage(t *testing.T) {
	for _, damage := range []struct {
		name string
		do   func(testing.TB, volumeFile, []needed) []stretch
	}{
		{"flip", func(t testing.TB, v volumeFile, list []needed) []stretch {
			return []stretch{v.flipIn(t, list, "/large/4")}
		}},
		{"flips", func(t testing.TB, v volumeFile, list []needed) []stretch {
			all := []stretch{v.flipIn(t, list, "/small/3/3")}
			for i := range int64(10) {
				at := v.size * (i + 1) / 11
				if all[0].from == at { // once more is whole again
					continue
				}
				v.flip(t, at)
				all = append(all, stretch{at, at + 1})
			}
			return all
		}},
		{"truncate", func(t testing.TB, v volumeFile, _ []needed) []stretch {
			if err := os.Truncate(v.path, v.size/2); err != nil {
				t.Fatal(err)
			}
			return []stretch{{v.size / 2, v.size}}
		}},
		{"delete", func(t testing.TB, v volumeFile, _ []needed) []stretch {
			if err := os.Remove(v.path); err != nil {
				t.Fatal(err)
			}
			return []stretch{{0, v.size}}
		}},
	} {
		t.Run(damage.name, func(t *testing.T) {
			w := newWorld(t)
			src, snap := damagedTree(w)
			want := sums(t, src.dir)
			list, v := neededPlaces(t, w), w.largest("data")
			costs := map[string]bool{}
			for _, s := range damage.do(t, v, list) {
				maps.Copy(costs, hit(list, filepath.Base(v.path), s.from, s.to))
			}

			o := w.do(4, "restore", "--json", snap, "--to", w.path("out"))
			lost := reported(t, o, w.path("out"))
			t.Logf("%d files lost", len(lost))
			samePaths(t, "restore", costs, slashed(lost))
			differ(t, "what could be restored", without(want, lost), sums(t, w.path("out")))

			w.do(0, "ls", "-R", "-l", snap)
			if n := strings.Count(w.do(0, "find", "--snapshot", snap, "*").stdout, "\n"); n != strings.Count(want, "\n") {
				t.Errorf("find sees %d entries", n)
			}
			src.write("small/0/new", 77)
			t.Run("mount", func(t *testing.T) { w.with(t).checkDamagedMount(snap, want, lost) })
			s := w.backup(0, "d", src.dir)
			w.do(0, "diff", snap, "d@"+s.Name)
			differ(t, "the next snapshot", sums(t, src.dir), w.restored("d@"+s.Name))
			differ(t, "the damaged snapshot after the next", want, w.restored(snap))
		})
	}
}

// without is a listing without these paths.
func without(listing string, paths map[string]bool) string {
	var out strings.Builder
	for line := range strings.Lines(listing) {
		if name, _, _ := strings.Cut(line, " "); !paths[name] {
			out.WriteString(line)
		}
	}
	return out.String()
}

// checkDamagedMount reads every file through a mount: lost ones give EIO, all others are what they were.
func (w *world) checkDamagedMount(snap, want string, lost map[string]bool) {
	mnt := w.mount("mnt")
	dir := filepath.Join(mnt, strings.Replace(snap, "@", "/", 1))
	for line := range strings.Lines(want) {
		name, rest, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(rest, "-") || w.t.Failed() {
			continue
		}
		sum, err := sumOf(filepath.Join(dir, name))
		switch {
		case lost[name] && !errors.Is(err, syscall.EIO):
			w.t.Errorf("%s is damaged, reading it gives %v", name, err)
		case !lost[name] && (err != nil || !strings.HasSuffix(strings.TrimSpace(rest), sum)):
			w.t.Errorf("%s is not damaged, reading it gives %v", name, err)
		}
	}
	w.umount(mnt)
	log, err := os.ReadFile(w.path("state", "snapfs", "mount.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	for name := range lost {
		if !strings.Contains(string(log), name) {
			w.t.Errorf("the log does not name %s: %s", name, tail(string(log)))
			break
		}
	}
}

// TestDamagedNodes damages the metadata: whatever can still be reached is restored, and what cannot is named.
func TestDamagedNodes(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	for i := range 30 { // far more than fits one frame of nodes
		src.files(fmt.Sprintf("dir%d", i), 150)
	}
	snap := "d@" + w.backup(0, "d", src.dir).Name
	v := w.largest("metadata")
	v.flip(t, 4096+(v.size-4096)/4)
	o := w.start("restore", "--json", snap, "--to", w.path("out")).wait()
	if o.code != 4 {
		t.Fatalf("exit code %d, want 4: %s", o.code, tail(o.stderr))
	}
	lost := reported(t, o, w.path("out"))
	t.Logf("%d paths lost", len(lost))
	want := ""
	for line := range strings.Lines(sums(t, src.dir)) {
		name, _, _ := strings.Cut(line, " ")
		if !under(name, lost) {
			want += line
		}
	}
	got := ""
	for line := range strings.Lines(sums(t, w.path("out"))) {
		if name, _, _ := strings.Cut(line, " "); !under(name, lost) {
			got += line
		}
	}
	differ(t, "what could be restored", want, got)
	if o := w.start("ls", "-R", snap).wait(); o.code != 4 || strings.Count(o.stdout, "\n") < strings.Count(want, "\n") {
		t.Errorf("ls: exit code %d, %d lines of %d: %s", o.code, strings.Count(o.stdout, "\n"), strings.Count(want, "\n"), tail(o.stderr))
	}
	s := w.backup(0, "d", src.dir)
	differ(t, "the next backup", sums(t, src.dir), w.restored("d@"+s.Name))
	differ(t, "the damaged snapshot after the next", sums(t, src.dir), w.restored(snap))
}

// TestNextBackupHeals damages a large file, one with two names, attributes and a volume of an earlier snapshot; whoever
// meets the damage, and however little of it, the next backup of the unchanged source mends all snapshots.
func TestNextBackupHeals(t *testing.T) {
	for _, reader := range []string{"cat", "mount", "holder"} {
		t.Run(reader, func(t *testing.T) {
			w := newWorld(t)
			src := newChurn(t, w.mkdir("source"))
			src.write("large", 30<<20)
			src.write("linked", 300<<10)
			if err := os.Link(filepath.Join(src.dir, "linked"), filepath.Join(src.dir, "other")); err != nil {
				t.Fatal(err)
			}
			old := "d@" + w.backup(0, "d", src.dir).Name
			v, places := w.largest("data"), neededPlaces(t, w)
			src.write("later", 1000)
			w.backup(0, "d", src.dir)
			want := sums(t, src.dir)
			v.flipIn(t, places, "/linked")
			v.flipEveryThird(t, places, "/large")
			w.meet(reader, old, "large", "linked")
			s := w.backup(0, "d", src.dir)
			if s.Changed != 0 || s.New != 0 || s.Read < 30<<20 {
				t.Errorf("%+v", s)
			}
			differ(t, "the newest snapshot", want, w.restored("d@"+s.Name))
			differ(t, "the first snapshot", strings.Replace(want, lineOf(want, "later"), "", 1), w.restored(old))
			if s := w.backup(0, "d", src.dir); s.Read != 0 {
				t.Errorf("healed, and read again: %+v", s)
			}
		})
	}
}

// flipEveryThird inverts a byte in the first frame that a path needs and in every third one after it.
func (v volumeFile) flipEveryThird(t testing.TB, list []needed, path string) {
	t.Helper()
	for i, at := range v.middles(list, path) {
		if i%3 == 0 {
			v.flip(t, at)
		}
	}
}

// meet reads damaged files of a snapshot in one of several ways.
func (w *world) meet(reader, snap string, files ...string) {
	switch reader {
	case "cat":
		for _, f := range files {
			w.do(4, "cat", snap+":/"+f)
		}
	case "mount", "holder":
		mnt := w.mount("mnt")
		dir := filepath.Join(mnt, strings.Replace(snap, "@", "/", 1))
		for _, f := range files {
			if _, err := sumOf(filepath.Join(dir, f)); !errors.Is(err, syscall.EIO) {
				w.t.Errorf("%s through the mount: %v", f, err)
			}
		}
		if reader == "mount" {
			w.umount(mnt)
		}
	}
}

// lineOf is the line of a listing that begins with a name.
func lineOf(listing, name string) string {
	for line := range strings.Lines(listing) {
		if strings.HasPrefix(line, name+" ") {
			return line
		}
	}
	return ""
}

// TestVolumeOfEarlierSnapshotGone takes away the volume of a first snapshot that a second one relies on: the next backup
// reads those files again.
func TestVolumeOfEarlierSnapshotGone(t *testing.T) {
	for _, kind := range []string{"data", "metadata"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			src := newChurn(t, w.mkdir("source"))
			src.files("small", 300)
			w.backup(0, "d", src.dir)
			v := w.largest(kind)
			src.write("later", 1000)
			second := "d@" + w.backup(0, "d", src.dir).Name
			if err := os.Remove(v.path); err != nil {
				t.Fatal(err)
			}
			s := w.backup(0, "d", src.dir)
			differ(t, "the next snapshot", sums(t, src.dir), w.restored("d@"+s.Name))
			differ(t, "the second snapshot", sums(t, src.dir), w.restored(second))
		})
	}
}

// under reports whether a path is one of those or below one.
func under(path string, dirs map[string]bool) bool {
	for ; path != "."; path = filepath.Dir(path) {
		if dirs[path] {
			return true
		}
	}
	return dirs[""]
}
