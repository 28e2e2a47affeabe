package fs

import (
	"context"
	"log/slog"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"snapfs/snapshot"
)

// TestUnpin: a snapshot that is forgotten stays pinned until the kernel refers to nothing in it.
func TestUnpin(t *testing.T) {
	ctx := context.Background()
	mem := newMemStore(t.TempDir())
	if _, err := mem.add(ctx, &snapshot.Manifest{Dataset: "d", Name: "one", Root: snapshot.Entry{Type: snapshot.TypeDir}}, 0); err != nil {
		t.Fatal(err)
	}
	state, err := mem.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(ctx, mem, newView(state, filter{}, nil), filter{}, settings{}, slog.New(slog.DiscardHandler))
	defer s.close()
	var out fuse.EntryOut
	if st := s.lookupOwn(datasetID(state.Snapshots[0].DatasetNumber), "one", &out); !st.Ok() || len(mem.pinned) != 1 {
		t.Fatalf("lookup: %v, %d pinned", st, len(mem.pinned))
	}
	mem.state.Snapshots[0].Forgotten = true
	if _, err := s.refresh(ctx); err != nil || len(mem.pinned) != 1 {
		t.Errorf("%v; %d pinned while it is in use", err, len(mem.pinned))
	}
	s.Forget(out.NodeId, 1)
	if len(mem.pinned) != 0 {
		t.Error("pinned although nobody uses it")
	}
}
