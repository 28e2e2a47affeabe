package fs

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/snapshot"
	"snapfs/store"
)

// TestDatasetComesBack: whoever holds a dataset's directory open while all its snapshots are forgotten, and others come, sees what there is.
func TestDatasetComesBack(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "old", Source: src}, {Dataset: "e", Name: "other", Source: src}}})
	dir, err := os.Open(s.path("d"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if got := names(t, s.path("d")); !slices.Equal(got, []string{"latest", "old"}) {
		t.Fatal(got)
	}
	if _, err := os.Stat(s.path("d/new")); err == nil {
		t.Fatal("there already")
	}
	s.do("forget 1")
	s.do("refresh")
	if got, err := dir.Readdirnames(-1); err != nil || len(got) != 0 {
		t.Errorf("the directory that is gone holds %q, %v", got, err)
	}
	s.do("add d new " + src)
	s.do("refresh")
	if got := names(t, s.path("d")); !slices.Equal(got, []string{"latest", "new"}) {
		t.Errorf("the directory that came back holds %q", got)
	}
	if got, err := os.Readlink(s.path("d/latest")); err != nil || got != "new" {
		t.Errorf("latest is %q, %v", got, err)
	}
	if _, err := os.Stat(s.path("d/new")); err != nil {
		t.Error(err)
	}
}

// refreshing is a store in which something happens when a snapshot's manifest is read.
type refreshing struct {
	*memStore
	once sync.Once
	do   func()
}

func (r *refreshing) Get(ctx context.Context, kind store.Kind, id store.ID) ([]byte, error) {
	r.once.Do(r.do)
	return r.memStore.Get(ctx, kind, id)
}

// TestForgottenWhileEntered: a snapshot that is forgotten while it is looked up is either readable or not there, and is not pinned for ever.
func TestForgottenWhileEntered(t *testing.T) {
	ctx := context.Background()
	mem := newMemStore(t.TempDir())
	if _, err := mem.add(ctx, &snapshot.Manifest{Dataset: "d", Name: "one", Root: snapshot.Entry{Type: snapshot.TypeDir}}, 0); err != nil {
		t.Fatal(err)
	}
	state, err := mem.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	src := &refreshing{memStore: mem}
	s := newServer(ctx, src, newView(state, filter{}, nil), filter{}, settings{}, slog.New(slog.DiscardHandler))
	defer s.close()
	src.do = func() {
		mem.state.Snapshots[0].Forgotten = true
		if _, err := s.refresh(ctx); err != nil {
			t.Error(err)
		}
	}
	var out fuse.EntryOut
	if st := s.lookupOwn(datasetID(1), "one", &out); st.Ok() {
		var a fuse.Attr
		if st := s.stat(out.NodeId, &a); !st.Ok() {
			t.Errorf("looked up, but: %v", st)
		}
		s.Forget(out.NodeId, 1)
	}
	if len(mem.pinned) != 0 {
		t.Error("pinned although nobody uses it")
	}
}
