package volume

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func createPlain(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

func TestFileWritesBehind(t *testing.T) {
	for _, keep := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "volume")
		f, err := CreateFile(path, FileOptions{KeepCached: keep})
		if err != nil {
			t.Fatal(err)
		}
		const piece, pieces = 1<<20 - 100, 30 // frames straddle windows
		var group sync.WaitGroup
		for g := range 3 {
			group.Go(func() {
				for i := g; i < pieces; i += 3 {
					if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i)}, piece), int64(i*piece)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
		checkWindows(t, f, piece*pieces)
		for range 2 {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) != piece*pieces {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		for i := range pieces {
			if data[i*piece] != byte(i) || data[(i+1)*piece-1] != byte(i) {
				t.Fatalf("piece %d differs", i)
			}
		}
	}
}

// checkWindows sees that each full window was handed over once.
func checkWindows(t *testing.T, f *OSFile, size int64) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.filled) != 1 || f.filled[size/window*window] != size%window {
		t.Errorf("windows not full: %v", f.filled)
	}
}

func TestFileExists(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateFile(path, FileOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another file: %v", err)
	}
}

// The device reports a failed write once; whoever writes or syncs later must still hear of it.
func TestFileRemembersFailure(t *testing.T) {
	f, err := CreateFile(filepath.Join(t.TempDir(), "volume"), FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.note(unix.EIO)
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EIO) {
		t.Errorf("write: %v", err)
	}
	for range 2 {
		if err := f.Sync(); !errors.Is(err, unix.EIO) {
			t.Errorf("sync: %v", err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestVolumeOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume")
	f, err := CreateFile(path, FileOptions{Perm: 0o640})
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, f)
	p := appendBlobs(t, w, textBytes(1, 100_000))
	if err := errors.Join(w.Seal(), w.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checkContents(t, &memFile{data: data}, []placed{p})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 || info.Size() != w.Size() {
		t.Errorf("%v, %v", info, err)
	}
}
