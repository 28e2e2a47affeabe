package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

func TestDryRun(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a": "1", "d/b": "22", "d/c": "333"})
	must(t, os.Link(filepath.Join(root, "a"), filepath.Join(root, "d/l")))
	age(t, root)
	repo := newFakeRepo(t)
	dry := repo.backup(t, Options{Paths: []string{root}, DryRun: true})
	if got := counts4(dry); got != "new 4 changed 0 unchanged 0 removed 0" || dry.Entries != 5 || dry.Bytes != 7 {
		t.Errorf("%s %+v", got, dry)
	}
	if repo.Puts != 0 || len(repo.state.Snapshots) != 0 {
		t.Errorf("%d blobs, %d snapshots", repo.Puts, len(repo.state.Snapshots))
	}
	repo.backup(t, Options{Paths: []string{root}})
	puts := repo.Puts
	write(t, root, map[string]string{"d/b": "changed", "n": "new"})
	must(t, os.Remove(filepath.Join(root, "d/c")))
	dry = repo.backup(t, Options{Paths: []string{root}, DryRun: true})
	if got := counts4(dry); got != "new 1 changed 1 unchanged 2 removed 1" || dry.BytesRead != 0 || repo.Puts != puts {
		t.Errorf("%s %+v", got, dry)
	}
}

func TestSkipUnchanged(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a": "1", "d/b": "2"})
	repo := newFakeRepo(t)
	o := Options{Paths: []string{root}, SkipUnchanged: true}
	if res := repo.backup(t, o); res.Skipped {
		t.Error("first one skipped")
	}
	if res := repo.backup(t, o); !res.Skipped || !res.Snapshot.ID.IsZero() || res.Unchanged != 2 {
		t.Errorf("%+v", res)
	}
	o.Reread = true
	if res := repo.backup(t, o); !res.Skipped || res.Unchanged != 2 || res.BytesRead != 2 {
		t.Errorf("%+v", res)
	}
	must(t, os.Chmod(filepath.Join(root, "a"), 0o600))
	age(t, root)
	if res := repo.backup(t, o); res.Skipped || res.Changed != 1 {
		t.Errorf("%+v", res)
	}
	must(t, os.Mkdir(filepath.Join(root, "new"), 0o700))
	age(t, root)
	if res := repo.backup(t, o); res.Skipped || res.Changed+res.New+res.Removed != 0 {
		t.Errorf("%+v", res)
	}
	if len(repo.state.Snapshots) != 3 {
		t.Errorf("%d snapshots", len(repo.state.Snapshots))
	}
}

func TestNewSource(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	repo := newFakeRepo(t)
	repo.backup(t, Options{Paths: []string{a}})
	for _, o := range []Options{{Paths: []string{b}}, {Paths: []string{a}, Host: "other"}} {
		if _, err := repo.try(t, o); !errors.Is(err, ErrNewSource) {
			t.Error(err)
		}
		o.NewSource = true
		repo.backup(t, o)
	}
	if _, err := repo.try(t, Options{Paths: []string{a}, Dataset: "bad name"}); !errors.Is(err, ErrDatasetName) {
		t.Error(err)
	}
	o := Options{Paths: []string{a, b}}
	if _, err := backupTree(t.Context(), repo, &o, hooks{}); !errors.Is(err, ErrDatasetNeeded) {
		t.Error(err)
	}
}

func TestTimeline(t *testing.T) {
	root := t.TempDir()
	repo := newFakeRepo(t)
	zone := time.FixedZone("", 3*3600)
	at := time.Date(2040, 1, 2, 3, 4, 5, 6, zone)
	first := repo.backup(t, Options{Paths: []string{root}, Time: at})
	second := repo.backup(t, Options{Paths: []string{root}, Time: at, Tags: []string{"b", "a", "b"}})
	if first.Snapshot.Name != "2040-01-02_03-04-05" || second.Snapshot.Name != "2040-01-02_03-04-05-2" {
		t.Error(first.Snapshot.Name, second.Snapshot.Name)
	}
	m := repo.tree(t, second.Snapshot.ID).Manifest()
	if !m.Start.Equal(at) || m.Offset != 3*3600 || fmt.Sprint(m.Tags) != "[a b]" || m.Parent != first.Snapshot.ID || m.StartedEarlier {
		t.Errorf("%+v", m)
	}
	var warnings []string
	third := repo.backup(t, Options{Paths: []string{root}, Warn: func(s string) { warnings = append(warnings, s) }})
	if m := repo.tree(t, third.Snapshot.ID).Manifest(); !m.StartedEarlier || len(warnings) != 1 {
		t.Errorf("%v %q", m.StartedEarlier, warnings)
	}
}

func TestLockedDataset(t *testing.T) {
	repo := newFakeRepo(t)
	unlock, err := repo.LockDataset(t.Context(), "test", false)
	must(t, err)
	var locked *store.LockedError
	if _, err := repo.try(t, Options{Paths: []string{t.TempDir()}}); !errors.As(err, &locked) {
		t.Error(err)
	}
	unlock()
	repo.backup(t, Options{Paths: []string{t.TempDir()}})
}

func TestDamagedParent(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{"top": "1"}
	for i := range 2000 {
		files[fmt.Sprintf("d/%04d", i)] = "x"
	}
	write(t, root, files)
	repo := newFakeRepo(t)
	repo.backup(t, Options{Paths: []string{root}})
	write(t, root, map[string]string{"d/new": "2"})
	second := repo.backup(t, Options{Paths: []string{root}})
	tree := repo.tree(t, second.Snapshot.ID)
	d, err := tree.Walk(t.Context(), "/d")
	must(t, err)

	t.Run("node", func(t *testing.T) {
		repo.Drop(d.Dir)
		var warned int
		res := repo.backup(t, Options{Paths: []string{root}, Warn: func(string) { warned++ }})
		if res.Errors != 0 || warned != 1 || res.BytesRead < 2000 {
			t.Errorf("%d warnings, %+v", warned, res)
		}
		compare(t, repo.tree(t, res.Snapshot.ID), root)
	})
	t.Run("manifest", func(t *testing.T) {
		last := repo.state.Snapshots[len(repo.state.Snapshots)-1].ID
		repo.Drop(last)
		repo.Drop(second.Snapshot.ID)
		res := repo.backup(t, Options{Paths: []string{root}})
		if res.New != 1 || res.Unchanged != 2001 {
			t.Error(counts4(res))
		}
		compare(t, repo.tree(t, res.Snapshot.ID), root)
	})
	t.Run("said to be", func(t *testing.T) {
		for i := range repo.state.Snapshots {
			repo.state.Snapshots[i].Damaged = "volume missing"
		}
		repo.reads.Store(0)
		res := repo.backup(t, Options{Paths: []string{root}})
		if res.New != 2002 || !res.Parent.IsZero() {
			t.Error(counts4(res))
		}
		if repo.reads.Load() == 0 {
			t.Error("it relies on blobs that nobody has read")
		}
	})
}

func TestPartial(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{}
	const total = 2000
	for i := range total {
		files[fmt.Sprintf("d%02d/f%03d", i%20, i)] = strings.Repeat(fmt.Sprint(i), 100)
	}
	write(t, root, files)
	for i := range 50 {
		must(t, os.Link(filepath.Join(root, fmt.Sprintf("d%02d/f%03d", i%20, i)), filepath.Join(root, fmt.Sprintf("d%02d/l%d", i%19, i))))
	}
	age(t, root)
	for _, parent := range []bool{false, true} {
		repo := newFakeRepo(t)
		half := total / 2
		if parent {
			half /= 2
			repo.backup(t, Options{Paths: []string{root}, Exclude: []string{"d0?"}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		n, seq := 0, uint64(0)
		o := Options{Paths: []string{root}, Dataset: "test", PartialInterval: 20 * time.Millisecond, Workers: 1}
		_, err := backupTree(ctx, repo, &o, hooks{batchFiles: 10, read: func(string) {
			if n++; n%10 == 0 {
				time.Sleep(time.Millisecond)
				if n > half { // the next partial may be long in coming
					time.Sleep(50 * time.Millisecond)
				}
			}
			state, _ := repo.State(ctx)
			if n == half {
				seq = state.Seq
			}
			if n > half && state.Seq > seq {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		last := repo.state.Snapshots[len(repo.state.Snapshots)-1]
		if !last.Partial {
			t.Fatal("no partial")
		}
		had := len(listTree(t, repo.tree(t, last.ID)))
		res := repo.backup(t, Options{Paths: []string{root}})
		if res.BytesRead >= res.Bytes*2/3 || parent != (res.Unchanged > 0) {
			t.Errorf("parent %v: read %d of %d again, with a partial of %d entries: %s", parent, res.BytesRead, res.Bytes, had, counts4(res))
		}
		tree := repo.tree(t, res.Snapshot.ID)
		compare(t, tree, root)
		if m := tree.Manifest(); m.Links != 50 {
			t.Errorf("%d linked files", m.Links)
		}
		if s := repo.state.Snapshots[len(repo.state.Snapshots)-1]; s.Partial || !parent && len(repo.state.Snapshots) != 1 {
			t.Errorf("%+v", repo.state.Snapshots)
		}
	}
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// TestPartialWhenInterrupted stops a run that has done something worth keeping.
func TestPartialWhenInterrupted(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a/big": strings.Repeat("0123456789abcde\n", (partialBytes>>4)+1), "b/small": "x", "c": "y"})
	repo := newFakeRepo(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := Options{Paths: []string{root}, Dataset: "test"}
	var r *run
	_, err := backupTree(ctx, repo, &o, hooks{begun: func(begun *run) { r = begun }, before: func(name string) {
		if name == "small" {
			<-ctx.Done() // until the large one is read; and a run that is over before it can stand still leaves no partial
			for deadline := time.Now().Add(time.Minute); !r.gate.isShut() && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
		}
	}, done: func(name string) {
		if name == "big" {
			cancel()
		}
	}, patience: time.Hour})
	if !errors.Is(err, context.Canceled) || len(repo.state.Snapshots) != 1 || !repo.state.Snapshots[0].Partial {
		t.Fatalf("%v, %+v", err, repo.state.Snapshots)
	}
	res := repo.backup(t, Options{Paths: []string{root}})
	if res.BytesRead > 2 || res.New != 3 {
		t.Errorf("%+v", res)
	}
	compare(t, repo.tree(t, res.Snapshot.ID), root)
}

func TestStream(t *testing.T) {
	repo := newFakeRepo(t)
	data := bytes.Repeat([]byte("a line of the stream that is saved\n"), 200_000)
	o := StreamOptions{Name: "db.sql", Tags: []string{"x"}}
	res, err := backupStream(t.Context(), repo, bytes.NewReader(data), nil, &o)
	must(t, err)
	tree := repo.tree(t, res.Snapshot.ID)
	e := listTree(t, tree)["db.sql"]
	if e == nil || !bytes.Equal(content(t, tree, e), data) {
		t.Fatalf("%+v", e)
	}
	m := tree.Manifest()
	if m.Found != snapshot.FoundByStream || m.Paths[0] != "/db.sql" || m.Dataset != "db.sql" || res.Entries != 1 || res.New != 1 || res.BytesRead != int64(len(data)) {
		t.Errorf("%+v %+v", m, res)
	}
	o.SkipUnchanged = true
	if res, err = backupStream(t.Context(), repo, bytes.NewReader(data), nil, &o); err != nil || !res.Skipped || res.Unchanged != 1 {
		t.Errorf("%+v %v", res, err)
	}
	if res, err = backupStream(t.Context(), repo, strings.NewReader("other"), nil, &o); err != nil || res.Skipped || res.Changed != 1 {
		t.Errorf("%+v %v", res, err)
	}
	n := len(repo.state.Snapshots)
	bad := errors.New("command failed")
	if _, err = backupStream(t.Context(), repo, strings.NewReader("x"), func() error { return bad }, &o); !errors.Is(err, bad) {
		t.Error(err)
	}
	if _, err = backupStream(t.Context(), repo, strings.NewReader(""), nil, &o); !errors.Is(err, ErrEmptyStream) {
		t.Error(err)
	}
	if _, err = backupStream(t.Context(), repo, &failingReader{}, nil, &o); !errors.Is(err, errSource) {
		t.Error(err)
	}
	if len(repo.state.Snapshots) != n {
		t.Error("something was committed")
	}
	o.AllowEmpty = true
	if res, err = backupStream(t.Context(), repo, strings.NewReader(""), nil, &o); err != nil || res.Bytes != 0 {
		t.Error(err)
	}
	for _, name := range []string{"", "/", "a/b", ".", ".."} {
		if _, err := backupStream(t.Context(), repo, strings.NewReader("x"), nil, &StreamOptions{Name: name, Dataset: "d"}); !errors.Is(err, ErrStreamName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

var errSource = errors.New("cannot read")

type failingReader struct{ n int }

func (r *failingReader) Read(p []byte) (int, error) {
	if r.n++; r.n > 20 {
		return 0, errSource
	}
	return len(p), nil
}

func TestDatasetFor(t *testing.T) {
	for _, c := range []struct {
		paths []string
		want  string
		err   error
	}{
		{[]string{"/"}, "root", nil},
		{[]string{"/etc/x"}, "etc-x", nil},
		{[]string{"/does/not exist"}, "does-not_exist", nil},
		{[]string{"/a", "/a/b"}, "a", nil},
		{[]string{"/a", "/b"}, "", ErrDatasetNeeded},
		{nil, "", ErrDatasetNeeded},
		{[]string{"/.hidden"}, "", ErrDatasetName},
	} {
		if got, err := DatasetFor(c.paths); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %q %v", c.paths, got, err)
		}
	}
}
