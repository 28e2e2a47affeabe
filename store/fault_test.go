package store

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"snapfs/store/volume"
)

// faultyFiles fails one operation, the k-th that counts, and if lasting all that come after it.
type faultyFiles struct {
	Files
	err     error
	lasting bool

	mu   sync.Mutex
	left int
	hit  bool
}

var errInjected = errors.New("injected fault")

// next reports whether the present operation is the one to fail.
func (f *faultyFiles) next() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left--
	if f.left == -1 || f.lasting && f.left < 0 {
		f.hit = true
		return f.err
	}
	return nil
}

func (f *faultyFiles) Create(path string, keepCached bool) (volume.File, error) {
	if err := f.next(); err != nil {
		return nil, err
	}
	file, err := f.Files.Create(path, keepCached)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f}, nil
}

func (f *faultyFiles) WriteFile(path string, data []byte) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.Files.WriteFile(path, data)
}

func (f *faultyFiles) SyncDir(path string) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.Files.SyncDir(path)
}

func (f *faultyFiles) Rename(from, to string) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.Files.Rename(from, to)
}

type faultyFile struct {
	volume.File
	f *faultyFiles
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.f.next(); err != nil {
		n, _ := f.File.WriteAt(b[:len(b)/2], off) // torn
		return n, err
	}
	return f.File.WriteAt(b, off)
}

func (f *faultyFile) Sync() error {
	if err := f.f.next(); err != nil {
		return err
	}
	return f.File.Sync()
}

// TestFailingOperations fails the k-th operation of two backups for every k: whatever was reported committed is
// there afterwards, whole, and the store can be used again.
func TestFailingOperations(t *testing.T) {
	for _, fault := range []error{errInjected, syscall.ENOSPC} {
		for k := 0; ; k++ {
			if !failAt(t, k, fault) {
				t.Logf("%d operations failed one by one with %v", k, fault)
				break
			}
			if k > 500 {
				t.Fatal("no end of operations")
			}
		}
	}
}

func failAt(t *testing.T, k int, fault error) (hit bool) {
	dir := newStore(t)
	own, err := filesFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := &faultyFiles{Files: own, err: fault, left: k}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files})
	if errors.Is(err, fault) {
		return true // the index of an empty store was not made
	}
	must(t, err)
	sets := [][][]byte{blobs(1, 10, 200<<10, 5000), blobs(2, 20, 300<<10, 600)}
	var committed [][][]byte
	for i, data := range sets {
		if err := tryBackup(t, st, data, byte(i)); err == nil {
			committed = append(committed, data)
		} else if !errors.Is(err, fault) || !errors.Is(err, ErrWriteFailed) {
			t.Fatalf("fault %d: error %v", k, err)
		}
	}
	_ = st.Close() // what it could not write is said below
	st = openStore(t, dir)
	defer closeStore(t, st)
	state, err := st.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Snapshots) < len(committed) {
		t.Fatalf("fault %d: %d of %d committed snapshots left", k, len(state.Snapshots), len(committed))
	}
	for _, s := range state.Snapshots {
		if s.Damaged != "" {
			t.Fatalf("fault %d: %s", k, s.Damaged)
		}
	}
	wantClean(t, st.session, VerifyOptions{Data: true})
	for _, data := range committed {
		for i, b := range data {
			got, err := st.Get(t.Context(), KindChunk, st.BlobID(KindChunk, b))
			if err != nil || string(got) != string(b) {
				t.Fatalf("fault %d: blob %d: %v", k, i, err)
			}
		}
	}
	if err := tryBackup(t, st, sets[0], 9); err != nil {
		t.Fatalf("fault %d: next backup: %v", k, err)
	}
	return files.hit
}

func tryBackup(t *testing.T, st *Store, data [][]byte, n byte) error {
	w := st.NewWriter()
	for _, b := range data {
		if _, err := w.Put(t.Context(), KindChunk, b); err != nil {
			return err
		}
	}
	id, err := w.Put(t.Context(), KindManifest, []byte{n})
	if err != nil {
		return err
	}
	if err := w.Flush(t.Context()); err != nil {
		return err
	}
	_, err = st.Commit(t.Context(), Commit{Dataset: "d", Snapshot: id, Name: string(rune('a' + n))})
	return err
}

// TestTornVolumes cuts volumes short and flips bytes: reading gives the data or an error that names the volume, and
// commits that lack bytes are shown as damaged.
func TestTornVolumes(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	data := blobs(3, 100, 200<<10, 300<<10, 4000)
	ids, _ := putAll(t, st, "d", "one", data)
	closeStore(t, st)
	entries, err := os.ReadDir(volumesDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	var largest string
	var size int64
	for _, e := range entries {
		if info, _ := e.Info(); info.Size() > size {
			largest, size = filepath.Join(volumesDir(dir), e.Name()), info.Size()
		}
	}
	whole, err := os.ReadFile(largest)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int64{size - 1, size - 5000, size / 2, 5000, 100, 0} {
		if err := os.WriteFile(largest, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		checkDamaged(t, dir, ids, data, cut < size/2)
	}
	for at := int64(1000); at < size; at += size / 7 {
		bad := append([]byte(nil), whole...)
		bad[at] ^= 0x40
		if err := os.WriteFile(largest, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		checkDamaged(t, dir, ids, data, false)
	}
	if err := os.Remove(largest); err != nil {
		t.Fatal(err)
	}
	checkDamaged(t, dir, ids, data, true)
	if err := os.WriteFile(largest, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	st = openStore(t, dir)
	defer closeStore(t, st)
	checkAll(t, st, ids, data)
}

func checkDamaged(t *testing.T, dir string, ids []ID, data [][]byte, must bool) {
	t.Helper()
	st := openStore(t, dir)
	defer closeStore(t, st)
	bad := 0
	for i, id := range ids {
		got, err := st.Get(t.Context(), KindChunk, id)
		var corrupt *CorruptError
		var missing *MissingError
		switch {
		case err == nil && string(got) == string(data[i]):
		case errors.As(err, &corrupt) || errors.As(err, &missing):
			bad++
		default:
			t.Errorf("blob %d: wrong data or error %v", i, err)
		}
	}
	state, err := st.State(t.Context())
	if err != nil || len(state.Snapshots) != 1 {
		t.Fatalf("state: %+v, %v", state, err)
	}
	if must && (bad == 0 || state.Snapshots[0].Damaged == "") {
		t.Errorf("%d blobs lost, commit damaged: %q", bad, state.Snapshots[0].Damaged)
	}
}

// TestBrokenIndex damages the index in several ways: the store opens all the same and has lost nothing.
func TestBrokenIndex(t *testing.T) {
	for name, harm := range map[string]func(dir string) error{
		"garbage in every file": func(dir string) error { return overwriteAll(dir, []byte("garbage")) },
		"empty files":           func(dir string) error { return overwriteAll(dir, nil) },
		"no current":            func(dir string) error { return os.Remove(filepath.Join(dir, currentName)) },
		"bad current":           func(dir string) error { return os.WriteFile(filepath.Join(dir, currentName), []byte("x"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			st := openStore(t, dir)
			data := blobs(3, 100, 200<<10)
			ids, _ := putAll(t, st, "d", "one", data)
			closeStore(t, st)
			if err := harm(filepath.Join(dir, indexName)); err != nil {
				t.Fatal(err)
			}
			st = openStore(t, dir)
			checkAll(t, st, ids, data)
			if state, _ := st.State(t.Context()); len(state.Snapshots) != 1 {
				t.Errorf("%d snapshots", len(state.Snapshots))
			}
			closeStore(t, st)
		})
	}
}

func overwriteAll(dir string, data []byte) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == currentName {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	})
}
