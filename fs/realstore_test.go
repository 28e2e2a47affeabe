package fs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// storeEnv makes this binary mount a store: "STORE\nMOUNTPOINT".
const storeEnv = "SNAPFS_FS_TEST_STORE"

var testKey = bytes.Repeat([]byte{7}, 32)

func openStore(ctx context.Context, dir string) (*store.Store, error) {
	return store.Open(ctx, dir, store.Options{
		Cache: StoreCache(0), References: snapshot.References,
		Unlock: func(context.Context, []store.KeySlot) (store.Secret, error) {
			return store.Secret{KeyFile: testKey}, nil
		},
	})
}

func serveStore(text string) error {
	ctx := context.Background()
	dir, mnt, _ := strings.Cut(text, "\n")
	st, err := openStore(ctx, dir)
	if err != nil {
		return err
	}
	m, err := New(ctx, st, mnt, Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return errors.Join(err, st.Close())
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return errors.Join(err, m.Close(), st.Close())
	}
	return errors.Join(m.Wait(), st.Close())
}

// realStore makes a store with a snapshot of src.
func realStore(t *testing.T, src string) string {
	t.Helper()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	if err := store.Init(ctx, dir, store.InitOptions{Slots: []store.NewKeySlot{{KeyFile: testKey}}}); err != nil {
		t.Fatal(err)
	}
	st, err := openStore(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	w := st.NewWriter()
	man, kinds, err := importManifest(ctx, w, st.PageKey(), src)
	if err != nil {
		t.Fatal(err)
	}
	man.Dataset, man.Name, man.Start, man.End = "d", "n", testStart, testStart
	id, err := snapshot.WriteManifest(ctx, w, man)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	sum := snapshot.Summary{Entries: man.Totals.Entries, Bytes: man.Totals.Bytes, HasXattrs: kinds != 0, XattrKinds: kinds, Single: true}
	c := store.Commit{Dataset: "d", Snapshot: id, Name: "n", Start: testStart, Summary: sum.Encode()}
	if _, err := st.Commit(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mountStore(t *testing.T, dir string) (mnt string, server *exec.Cmd, log *bytes.Buffer) {
	t.Helper()
	needFUSE(t)
	mnt, log = t.TempDir(), &bytes.Buffer{}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), storeEnv+"="+dir+"\n"+mnt)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(mnt, unix.MNT_DETACH)
		time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
	})
	buf := make([]byte, 6)
	if _, err := out.Read(buf); err != nil || string(buf) != "ready\n" {
		t.Fatalf("%q %v %s", buf, err, log)
	}
	return mnt, cmd, log
}

func TestRealStore(t *testing.T) {
	needRoot(t)
	needTool(t, "rsync")
	src := t.TempDir()
	makeTree(t, src)
	setXattrs(t, src)
	dir := realStore(t, src)
	mnt, server, _ := mountStore(t, dir)
	if out := run(t, "rsync", "-aHAXnc", "--delete", "--itemize-changes", src+"/", mnt+"/d/n/"); out != "" {
		t.Errorf("differs:\n%s", out)
	}
	// Others use the store meanwhile.
	st, err := openStore(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := st.State(context.Background()); err != nil || len(s.Snapshots) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	if err := Unmount(context.Background(), mnt, false); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("server: %v", err)
	}
}

// TestDamagedFrame flips bits in the frame of one large file.
func TestDamagedFrame(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	noise := make([]byte, 400<<10)
	for i, x := 0, uint64(88172645463325252); i < len(noise); i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		noise[i] = byte(x)
	}
	if err := os.WriteFile(filepath.Join(src, "noise"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := realStore(t, src)
	damageLargestFrames(t, dir, len(noise))
	mnt, server, log := mountStore(t, dir)
	if _, err := os.ReadFile(filepath.Join(mnt, "d/n/noise")); !errors.Is(err, unix.EIO) {
		t.Errorf("damaged file: %v, want EIO", err)
	}
	for _, name := range []string{"small", "two", "sub/one"} {
		if _, err := os.ReadFile(filepath.Join(mnt, "d/n", name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Unmount(context.Background(), mnt, false); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait()
	if !strings.Contains(log.String(), "path=/noise") || !strings.Contains(log.String(), "snapshot=d@n") {
		t.Errorf("log: %s", log)
	}
}

// damageLargestFrames overwrites bytes in the middle of the largest volume, where the noise lies.
func damageLargestFrames(t *testing.T, dir string, noise int) {
	t.Helper()
	var largest string
	var size int64
	err := filepath.WalkDir(filepath.Join(dir, "volumes"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil || size < int64(noise) {
		t.Fatalf("no volume of that size: %v", err)
	}
	f, err := os.OpenFile(largest, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damaged"), size/2); err != nil {
		t.Fatal(err)
	}
}
