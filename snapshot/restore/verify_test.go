package restore

import (
	"context"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"

	"snapfs/snapshot"
)

// TestVerifyFinds changes what was written before it is read back.
func TestVerifyFinds(t *testing.T) {
	src := t.TempDir()
	for _, name := range []string{"whole", "flipped", "shorter", "longer", "gone", "directory", "sub/flipped"} {
		write(t, src+"/"+name, noise(int64(len(name)), 700_000), 0o644)
	}
	ok(t, os.Symlink("here", src+"/link"))
	ok(t, os.Symlink("here", src+"/same link"))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for name, verify := range map[string]bool{"with": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			dst := t.TempDir()
			spoil := func() {
				flip(t, dst+"/flipped", 400_000)
				flip(t, dst+"/sub/flipped", 0)
				ok(t, os.Truncate(dst+"/shorter", 699_999))
				ok(t, os.Truncate(dst+"/longer", 700_001))
				ok(t, os.Remove(dst+"/gone"))
				ok(t, os.Remove(dst+"/directory"))
				ok(t, os.Mkdir(dst+"/directory", 0o755))
				ok(t, os.Remove(dst+"/link"))
				ok(t, os.Symlink("there", dst+"/link"))
			}
			got := map[string]bool{}
			res, err := runThrough(t, context.Background(), blobs, tree, Options{
				To: dst, Verify: verify,
				syncfs: func(int) error { spoil(); return nil },
				OnError: func(e *snapshot.PathError) {
					got[strings.TrimPrefix(e.Path, dst+"/")] = errors.Is(e, ErrDiffers)
				},
			})
			ok(t, err)
			want := map[string]bool{}
			if verify {
				want = map[string]bool{"flipped": true, "sub/flipped": true, "shorter": true, "longer": true, "gone": false, "directory": true, "link": true}
			}
			if !maps.Equal(got, want) || res.Errors != int64(len(want)) {
				t.Errorf("%d errors: %v, want %v", res.Errors, got, want)
			}
		})
	}
}

// flip changes one byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	ok(t, err)
	defer f.Close()
	b := []byte{0}
	_, err = f.ReadAt(b, at)
	ok(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	ok(t, err)
}
