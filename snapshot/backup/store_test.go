package backup

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/seal"
)

// TestRealStore goes the whole way, the store's process included.
func TestRealStore(t *testing.T) {
	dir, root := filepath.Join(t.TempDir(), "store"), t.TempDir()
	key := bytes.Repeat([]byte{3}, 32)
	must(t, store.Init(t.Context(), dir, store.InitOptions{Slots: []seal.NewSlot{{KeyFile: key}}, Program: "test"}))
	open := func() *store.Store {
		st, err := store.Open(t.Context(), dir, store.Options{
			Unlock: func(context.Context, []seal.Info) (seal.Secret, error) { return seal.Secret{KeyFile: key}, nil },
			Job:    "test", References: snapshot.References,
		})
		must(t, err)
		return st
	}
	write(t, root, map[string]string{"a/small": "1", "a/b/c": "2", "middle": strings.Repeat("0123456789", 100_000), "large": strings.Repeat("abcdefghijklmnop", 2<<20)})
	must(t, os.Link(filepath.Join(root, "a/small"), filepath.Join(root, "link")))
	age(t, root)

	st := open()
	first, err := Run(t.Context(), st, Options{Paths: []string{root}, Dataset: "d"})
	must(t, err)
	must(t, st.Close())

	st = open()
	defer st.Close()
	tree, err := snapshot.OpenTree(t.Context(), st, st.PageKey(), first.Snapshot.ID, nil)
	must(t, err)
	compare(t, tree, root)
	second, err := Run(t.Context(), st, Options{Paths: []string{root}, Dataset: "d"})
	must(t, err)
	if got := counts4(second); got != "new 0 changed 0 unchanged 5 removed 0" || second.BytesRead != 0 || second.BytesStored > 64<<10 {
		t.Errorf("%s %+v", got, second)
	}
	res, err := RunStream(t.Context(), st, strings.NewReader("stream"), nil, StreamOptions{Name: "s"})
	must(t, err)
	if tree, err = snapshot.OpenTree(t.Context(), st, st.PageKey(), res.Snapshot.ID, nil); err != nil || tree.Manifest().Totals.Bytes != 6 {
		t.Errorf("%v", err)
	}
	state, err := st.State(t.Context())
	must(t, err)
	if len(state.Snapshots) != 3 {
		t.Errorf("%d snapshots", len(state.Snapshots))
	}
}
