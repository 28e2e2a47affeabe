package store

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rewriteConfig changes the parameters of a store as a later version would have written them, signed.
func rewriteConfig(t *testing.T, dir string, change func(*config)) {
	t.Helper()
	st := openStore(t, dir)
	bundle := engineOf(st).bundle
	closeStore(t, st)
	c, err := readConfig(dir)
	must(t, err)
	change(&c)
	data, err := c.encode(bundle)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, configName), data, 0o600))
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
}

// TestNewerStore: a store of a later version is refused by name of what is unknown, before anything is looked at.
func TestNewerStore(t *testing.T) {
	for want, change := range map[string]func(*config){
		"format 2":        func(c *config) { c.Format = 2 },
		`feature "zstd2"`: func(c *config) { c.FeaturesRead = append(c.FeaturesRead[:2:2], "zstd2") },
	} {
		dir := newStore(t)
		rewriteConfig(t, dir, change)
		st, err := Open(t.Context(), dir, Options{Unlock: unlockTest})
		if !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if st != nil {
			closeStore(t, st)
		}
		if _, err := os.Stat(filepath.Join(dir, indexName)); err == nil {
			t.Errorf("%s: something was written", want)
		}
	}
}

// TestNewerFeatureOfWriters: what only writers need to know of keeps nobody from reading, and everybody from writing.
func TestNewerFeatureOfWriters(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	data := blobs(1, 10)
	ids, snap := putAll(t, st, "d", "one", data)
	closeStore(t, st)
	rewriteConfig(t, dir, func(c *config) { c.FeaturesWrite = append(c.FeaturesWrite[:2:2], "later") })
	before := readVolumes(t, dir)

	st = openStore(t, dir)
	defer closeStore(t, st)
	if got, err := st.Get(t.Context(), KindChunk, ids[0]); err != nil || string(got) != string(data[0]) {
		t.Errorf("read: %v", err)
	}
	w := st.NewWriter()
	_, err := w.Put(t.Context(), KindChunk, blobs(2, 1)[0])
	if err = errors.Join(err, w.Flush(t.Context())); !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), `feature "later"`) {
		t.Errorf("a chunk: %v", err)
	}
	if err := st.Forget(t.Context(), []ID{snap.ID}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("forget: %v", err)
	}
	if _, err := st.Prune(t.Context(), PruneOptions{}, nil); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("prune: %v", err)
	}
	if !maps.EqualFunc(before, readVolumes(t, dir), bytes.Equal) {
		t.Error("volumes were changed")
	}
}
