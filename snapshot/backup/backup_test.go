package backup

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapfs/snapshot"
)

// write makes files from a map: "dir/" is a directory, "link -> target" a symlink.
func write(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		switch {
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(path, 0o755))
		default:
			must(t, os.WriteFile(path, []byte(content), 0o644))
		}
	}
	age(t, root)
}

// age makes everything older than a clock tick.
func age(t testing.TB, root string) {
	t.Helper()
	time.Sleep(12 * time.Millisecond)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listTree returns the paths of a snapshot, directories with a slash.
func listTree(t testing.TB, tree *snapshot.Tree) map[string]*snapshot.Entry {
	t.Helper()
	out := map[string]*snapshot.Entry{}
	var walk func(prefix string, dir snapshot.Found)
	walk = func(prefix string, dir snapshot.Found) {
		must(t, tree.List(t.Context(), dir, 0, func(f snapshot.Found) bool {
			full, err := tree.Follow(t.Context(), f)
			must(t, err)
			if f.Type == snapshot.TypeDir {
				out[prefix+f.Name+"/"] = full.Entry
				walk(prefix+f.Name+"/", f)
			} else {
				out[prefix+f.Name] = full.Entry
			}
			return true
		}))
	}
	walk("", tree.Root())
	return out
}

// content reads a file of a snapshot.
func content(t testing.TB, tree *snapshot.Tree, e *snapshot.Entry) []byte {
	t.Helper()
	buf := make([]byte, e.Size)
	if e.Size > 0 {
		if _, err := tree.ReadAt(t.Context(), e, buf, 0); err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
	}
	return buf
}

// compare checks a snapshot of a directory against the directory.
func compare(t testing.TB, tree *snapshot.Tree, root string) {
	t.Helper()
	got := listTree(t, tree)
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() {
			rel += "/"
		}
		e := got[rel]
		if e == nil {
			t.Errorf("%s is not in the snapshot", rel)
			return nil
		}
		delete(got, rel)
		if d.Type().IsRegular() {
			want, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !bytes.Equal(want, content(t, tree, e)) {
				t.Errorf("%s: content differs", rel)
			}
		}
		return nil
	}))
	for rel := range got {
		t.Errorf("%s is in the snapshot alone", rel)
	}
}

func counts4(r *Result) string {
	return fmt.Sprintf("new %d changed %d unchanged %d removed %d", r.New, r.Changed, r.Unchanged, r.Removed)
}

func TestBackup(t *testing.T) {
	root := t.TempDir()
	repo := newFakeRepo(t)
	big := strings.Repeat("0123456789abcdef", 100_000)
	write(t, root, map[string]string{
		"a": "1", "b/c": "2", "b/d/e": "", "empty/": "", "big": big, "b/n\xffon-utf8\nname": "x", "z/1": "1", "z/2": "2",
	})
	first := repo.backup(t, Options{Paths: []string{root}})
	if got := counts4(first); got != "new 7 changed 0 unchanged 0 removed 0" {
		t.Error(got)
	}
	if first.Entries != 11 || first.Bytes != int64(5+len(big)) || first.BytesRead != first.Bytes {
		t.Errorf("%+v", first)
	}
	compare(t, repo.tree(t, first.Snapshot.ID), root)

	second := repo.backup(t, Options{Paths: []string{root}})
	if got := counts4(second); got != "new 0 changed 0 unchanged 7 removed 0" || second.BytesRead != 0 {
		t.Error(got, second.BytesRead)
	}
	a, b := repo.tree(t, first.Snapshot.ID).Root(), repo.tree(t, second.Snapshot.ID).Root()
	if a.Dir != b.Dir {
		t.Error("unchanged tree has another root")
	}

	write(t, root, map[string]string{"a": "changed", "b/new": "new"})
	must(t, os.Remove(filepath.Join(root, "z/1")))
	must(t, os.RemoveAll(filepath.Join(root, "b/d")))
	third := repo.backup(t, Options{Paths: []string{root}})
	if got := counts4(third); got != "new 1 changed 1 unchanged 4 removed 2" {
		t.Error(got)
	}
	compare(t, repo.tree(t, third.Snapshot.ID), root)
	if third.Parent != second.Snapshot.ID {
		t.Error("parent is not the last snapshot")
	}
}
