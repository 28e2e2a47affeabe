package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"snapfs/store/volume"
)

// trailerFiles copies the store whenever the trailer of a volume is about to be written.
type trailerFiles struct {
	Files
	copied func(path string)
}

func (f *trailerFiles) Create(path string, keepCached bool) (volume.File, error) {
	file, err := f.Files.Create(path, keepCached)
	return &trailerFile{file, f, path}, err
}

type trailerFile struct {
	volume.File
	f    *trailerFiles
	path string
}

func (f *trailerFile) WriteAt(b []byte, off int64) (int, error) {
	if len(b) == volume.TrailerSize && bytes.HasPrefix(b, []byte("snapfsTR")) {
		f.f.copied(f.path)
	}
	return f.File.WriteAt(b, off)
}

// TestKilledBeforeTrailer: a process that was killed when all of a volume but its trailer was written has damaged nothing, whether the index
// is there or not. Anything else where the trailer should stand is damage.
func TestKilledBeforeTrailer(t *testing.T) {
	dir := newStore(t)
	own, err := filesFor(dir)
	must(t, err)
	type killed struct{ dir, volume string }
	var copies []killed
	files := &trailerFiles{Files: own, copied: func(path string) {
		copies = append(copies, killed{copyStore(t, dir), filepath.Base(path)})
	}}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Job: "test", Files: files})
	must(t, err)
	ids, _ := putAll(t, st, "d", "one", blobs(1, 30))
	closeStore(t, st)
	if len(copies) < 3 {
		t.Fatalf("%d trailers", len(copies))
	}
	for i, c := range copies {
		for _, index := range []bool{true, false} {
			for want, behind := range [][]byte{nil, make([]byte, volume.TrailerSize)} {
				left := copyStore(t, c.dir)
				name := fmt.Sprintf("trailer %d, index %t, %d bytes", i, index, len(behind))
				if !index {
					must(t, os.RemoveAll(filepath.Join(left, indexName)))
				}
				path := filepath.Join(volumesDir(left), c.volume)
				data, err := os.ReadFile(path)
				must(t, err)
				must(t, os.WriteFile(path, append(data, behind...), 0o600))
				withoutKey := 0
				_, err = VerifyFiles(t.Context(), left, countFindings(&withoutKey))
				must(t, err)
				st := openStore(t, left)
				withKey := 0
				_, err = st.Verify(t.Context(), VerifyOptions{Data: true}, countFindings(&withKey))
				must(t, err)
				if withoutKey != want || withKey != want {
					t.Errorf("%s: %d findings without a key, %d with one, want %d", name, withoutKey, withKey, want)
				}
				for _, id := range ids {
					if _, err := st.Get(t.Context(), KindChunk, id); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				closeStore(t, st)
			}
		}
	}
}

func countFindings(n *int) func(VerifyEvent) error {
	return func(ev VerifyEvent) error {
		if ev.Finding != nil {
			*n++
		}
		return nil
	}
}
