package integration

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// frozen are the stores of released formats, made by testdata/freeze.sh, and by freeze-protected.sh with parity and archive sets. They
// open as they are, for ever.
var frozen = []string{"store-v1", "store-v1-protected"}

// thaw copies a frozen store to where nobody minds that an index is made, and with the modes that a repository of source
// does not keep.
func thaw(t *testing.T, name string) (w *world, kept string) {
	t.Helper()
	kept = filepath.Join("testdata", name)
	w = worldAt(t, t.TempDir())
	if err := os.CopyFS(w.store, os.DirFS(filepath.Join(kept, "store"))); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(w.store, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(kept)
	if err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "SNAPFS_KEY_FILE="+filepath.Join(abs, "key"))
	return w, abs
}

// content is every byte of the parts of a store that are the truth.
func (w *world) content() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for _, part := range []string{"snapfs.json", "keys", "volumes"} {
		err := filepath.WalkDir(filepath.Join(w.store, part), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			out[path] = string(data)
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return out
}

// TestFrozenStores reads every snapshot of every released format, by the index that is made and after a rebuild.
func TestFrozenStores(t *testing.T) {
	for _, name := range frozen {
		t.Run(name, func(t *testing.T) {
			w, kept := thaw(t, name)
			checkFrozen(t, w, kept)
			w.do(0, "verify")
			w.do(0, "verify", "--data")
			w.do(0, "rebuild")
			w.checkListed(readFile(t, kept, "snapshots.json"), "snapshots", "--json")
			w.env = append(w.env, "SNAPFS_KEY_FILE=", "SNAPFS_PASSWORD_FILE="+filepath.Join(kept, "password"))
			w.checkListed(readFile(t, kept, "snapshots.json"), "snapshots", "--json")
		})
	}
}

func checkFrozen(t *testing.T, w *world, kept string) {
	w.checkListed(readFile(t, kept, "snapshots.json"), "snapshots", "--json")
	lists, err := filepath.Glob(filepath.Join(kept, "snapshots", "*.ls"))
	if err != nil || len(lists) == 0 {
		t.Fatalf("no lists of snapshots: %v", err)
	}
	for _, list := range lists {
		snap := strings.TrimSuffix(filepath.Base(list), ".ls")
		w.checkListed(readFile(t, list), "ls", "-lR", "--json", snap)
		to := w.path("restored")
		w.do(0, "restore", snap, "--to", to)
		checkSums(t, kept, snap, to)
	}
}

// checkSums compares what was restored of a snapshot with the sums of its files, and removes it.
func checkSums(t *testing.T, kept, snap, to string) {
	t.Helper()
	for line := range strings.Lines(readFile(t, kept, "snapshots", snap+".sums")) {
		sum, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if got, err := sumOf(filepath.Join(to, path)); err != nil || got != sum {
			t.Errorf("%s: %q has sum %s, want %s: %v", snap, path, got, sum, err)
		}
	}
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
}

// TestFrozenParity damages every volume of a frozen store: its parity brings back the exact bytes.
func TestFrozenParity(t *testing.T) {
	w, kept := thaw(t, "store-v1-protected")
	before := w.content()
	for _, v := range volumes(t, w.store) {
		for _, at := range []int64{10, v.size / 2, v.size - 40} {
			v.flip(t, at)
		}
	}
	w.do(4, "verify", "--no-key")
	w.do(0, "verify", "--repair")
	if !maps.Equal(before, w.content()) {
		t.Error("the volumes are not what they were")
	}
	w.do(0, "verify", "--data")
	checkFrozen(t, w, kept)
}

// TestFrozenArchive reads frozen archive sets without their store: whole, damaged, and with a volume lost that the volume of parity
// makes anew.
func TestFrozenArchive(t *testing.T) {
	w, kept := thaw(t, "store-v1-protected")
	if err := os.RemoveAll(w.store); err != nil {
		t.Fatal(err)
	}
	whole, out := filepath.Join(kept, "archive"), w.path("archive")
	if err := os.CopyFS(out, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		t.Helper()
		for _, snap := range []string{"tree@2026-11-01_12-00-00", "tree@2026-11-02_12-00-00"} {
			to := w.path("restored")
			w.do(0, "archive", "restore", snap, "--from", out, "--to", to)
			checkSums(t, kept, snap, to)
		}
	}
	w.do(0, "archive", "verify", out)
	restore()
	for _, name := range []string{"first-0001.snapfs", "second-0001.snapfs", "first-parity-1.snapfs"} {
		v := volumeFile{path: filepath.Join(out, name)}
		for _, at := range []int64{10, 9000, 20000} {
			v.flip(t, at)
		}
	}
	w.do(4, "archive", "verify", out)
	restore()
	w.do(0, "archive", "repair", out, "--to", w.path("healed"))
	if differences := sh(t, w.dir, `for f in healed/*; do cmp "$f" "$1/${f##*/}" 2>&1 || true; done; ls healed | wc -l`, whole); strings.TrimSpace(differences) != "3" {
		t.Errorf("healed: %s", differences)
	}
	if err := errors.Join(os.RemoveAll(out), os.CopyFS(out, os.DirFS(whole)), os.Remove(filepath.Join(out, "first-0001.snapfs"))); err != nil {
		t.Fatal(err)
	}
	restore()
}

func readFile(t *testing.T, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// checkListed compares the objects that a command prints with those it printed once: fields may be added, none may
// change.
func (w *world) checkListed(want string, args ...string) {
	w.t.Helper()
	then, err := decodeObjects(want)
	if err != nil {
		w.t.Fatal(err)
	}
	now, err := decodeObjects(w.do(0, args...).stdout)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(then) != len(now) {
		w.t.Errorf("%s: %d objects, %d then", strings.Join(args, " "), len(now), len(then))
		return
	}
	for i, object := range then {
		for _, field := range slices.Sorted(maps.Keys(object)) {
			if field != "program" && !reflect.DeepEqual(object[field], now[i][field]) {
				w.t.Errorf("%s: object %d: %s is %v, was %v", strings.Join(args, " "), i, field, now[i][field], object[field])
			}
		}
	}
}

// TestReadersChangeNothing: commands that only look leave every byte of the volumes, keys and parameters as it was, also
// where a killed process left volumes open.
func TestReadersChangeNothing(t *testing.T) {
	w, _ := thaw(t, "store-v1")
	before := w.content()
	for _, args := range [][]string{
		{"snapshots"}, {"dataset", "list"}, {"ls", "-lR", "tree"}, {"cat", "tree:/etc/hosts"}, {"find", "hosts"},
		{"versions", "tree:/etc/hosts"}, {"diff", "tree@2026-11-22_06-40-05", "tree"}, {"du", "tree"}, {"dump", "stream"}, {"stats"}, {"key", "list"},
		{"key", "export"}, {"rebuild"}, {"restore", "tree", "--to", w.path("restored")},
		{"backup", "--dry-run", "--dataset", "other", w.mkdir("source")},
	} {
		o := w.start(args...).wait()
		if o.code != 0 {
			t.Errorf("%s: exit code %d: %s", strings.Join(args, " "), o.code, tail(o.stderr))
		}
		after := w.content()
		if !maps.Equal(before, after) {
			t.Fatalf("%s changed the store", strings.Join(args, " "))
		}
	}
	if ok, _ := condition("fuse"); ok {
		dir := w.mount("mnt")
		w.umount(dir)
		if !maps.Equal(before, w.content()) {
			t.Error("a mount changed the store")
		}
	}
}
