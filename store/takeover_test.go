package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/store/volume"
	"snapfs/store/wire"
)

// Environment of a process that opens a store for a test.
const (
	envStore = "SNAPFS_TEST_STORE"
	envLock  = "SNAPFS_TEST_LOCK"
)

// TestOtherProcess is no test: it opens the store of envStore, takes the lock of envLock, says so, and closes when its
// standard input ends.
func TestOtherProcess(t *testing.T) {
	dir := os.Getenv(envStore)
	if dir == "" {
		t.Skip("only run by other tests")
	}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Job: "other process"})
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	if name := os.Getenv(envLock); name != "" {
		must(t, st.session.Lock(t.Context(), name, "other process", true))
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	must(t, err)
	closeStore(t, st)
	fmt.Println("closed")
}

// process is another process with an open store.
type process struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

// startProcess returns when the process has the store open.
func startProcess(t *testing.T, dir, lock string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^TestOtherProcess$")}
	p.start(t, dir, lock)
	if line := p.line(t); line != "ready" {
		t.Fatalf("the other process says %q", line)
	}
	return p
}

func (p *process) start(t *testing.T, dir, lock string) {
	t.Helper()
	p.cmd.Env = append(os.Environ(), envStore+"="+dir, envLock+"="+lock)
	in, err := p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	p.in, p.out = in, bufio.NewReader(out)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	must(t, err)
	return strings.TrimSpace(line)
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	must(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
}

func isHolder(st *Store) bool {
	s := st.session.(*lastingSession)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.way != nil && s.way.server != nil
}

func TestClientsGoOnWhenTheHolderIsKilled(t *testing.T) {
	dir := newStore(t)
	holder := startProcess(t, dir, "")
	one, two := openStore(t, dir), openStore(t, dir)
	if isHolder(one) || isHolder(two) {
		t.Fatal("two holders")
	}
	unlock, err := one.LockDataset(t.Context(), "d", false)
	must(t, err)
	_, pinned := putAll(t, two, "d", "pinned", nil)
	must(t, one.Pin(t.Context(), pinned.ID))
	data := blobs(1, 5000, 300<<10, 40, 900)
	w := one.NewWriter()
	put := func(data [][]byte) {
		for _, b := range data {
			_, err := w.Put(t.Context(), KindChunk, b)
			must(t, err)
		}
		must(t, w.Flush(t.Context()))
	}
	put(data[:2])
	holder.kill(t)
	put(data[2:])
	ids, snap := putAll(t, one, "d", "one", data)
	if s := w.Stats(); s.NewBlobs != 4 {
		t.Errorf("%d new blobs, want 4", s.NewBlobs)
	}
	if isHolder(one) == isHolder(two) && isHolder(one) {
		t.Error("two holders")
	}
	var locked *LockedError
	if _, err := two.LockDataset(t.Context(), "d", false); !errors.As(err, &locked) {
		t.Errorf("the lock did not outlast the holder: %v", err)
	}
	unlock()
	unlock, err = two.LockDataset(t.Context(), "d", false)
	must(t, err)
	unlock()
	checkAll(t, two, ids, data)
	closeStore(t, one)
	closeStore(t, two)

	st := openStore(t, dir)
	defer closeStore(t, st)
	checkAll(t, st, ids, data)
	state, err := st.State(t.Context())
	must(t, err)
	if len(state.Snapshots) != 2 || state.Snapshots[1].ID != snap.ID || state.Snapshots[1].Damaged != "" {
		t.Errorf("state %+v", state)
	}
}

func TestHoldersKilledAgainAndAgain(t *testing.T) {
	dir := newStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	holder := startProcess(t, dir, "")
	type result struct {
		ids  []ID
		data [][]byte
	}
	var mu sync.Mutex
	var done []result
	var wg sync.WaitGroup
	for writer := range 2 {
		wg.Go(func() {
			st, err := Open(ctx, dir, Options{Unlock: unlockTest, Job: "writer"})
			if err != nil {
				t.Error(err)
				return
			}
			for i := 0; ctx.Err() == nil; i++ {
				data := blobs(uint64(writer<<10+i), 100, 200_000, 3000)
				ids, err := backupOnce(st, fmt.Sprint("d", writer), fmt.Sprint("n", i), data)
				if err != nil {
					t.Errorf("writer %d: %v", writer, err)
					break
				}
				mu.Lock()
				done = append(done, result{ids, data})
				mu.Unlock()
				if isHolder(st) { // hand the store on
					if err := st.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
					if st, err = Open(context.Background(), dir, Options{Unlock: unlockTest, Job: "writer"}); err != nil {
						t.Error(err)
						return
					}
				}
			}
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for range 8 {
		time.Sleep(30 * time.Millisecond)
		holder.kill(t)
		holder = startProcess(t, dir, "")
	}
	cancel()
	wg.Wait()
	must(t, holder.in.Close())
	if line := holder.line(t); line != "closed" {
		t.Errorf("the holder says %q", line)
	}

	st := openStore(t, dir)
	defer closeStore(t, st)
	state, err := st.State(t.Context())
	must(t, err)
	if len(state.Snapshots) != len(done) {
		t.Errorf("%d snapshots, %d were committed", len(state.Snapshots), len(done))
	}
	for _, s := range state.Snapshots {
		if s.Damaged != "" {
			t.Errorf("snapshot %s: %s", s.Name, s.Damaged)
		}
	}
	for _, r := range done {
		checkAll(t, st, r.ids, r.data)
	}
	t.Logf("%d snapshots", len(done))
}

// backupOnce stores blobs and commits a snapshot.
func backupOnce(st *Store, dataset, name string, data [][]byte) ([]ID, error) {
	ctx := context.Background()
	w := st.NewWriter()
	var ids []ID
	for _, b := range data {
		id, err := w.Put(ctx, KindChunk, b)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	manifest, err := w.Put(ctx, KindManifest, []byte(dataset+name))
	if err != nil {
		return nil, err
	}
	if err := w.Flush(ctx); err != nil {
		return nil, err
	}
	_, err = st.Commit(ctx, Commit{Dataset: dataset, Snapshot: manifest, Name: name, Start: time.Unix(1, 0)})
	return ids, err
}

func TestSocketLeftBehindIsReplaced(t *testing.T) {
	dir := newStore(t)
	startProcess(t, dir, "").kill(t)
	if _, err := os.Lstat(filepath.Join(dir, socketName)); err != nil {
		t.Fatal("there is no socket left behind: ", err)
	}
	st := openStore(t, dir)
	if !isHolder(st) {
		t.Error("not the holder")
	}
	closeStore(t, openStore(t, dir))
	closeStore(t, st)
	if _, err := os.Lstat(filepath.Join(dir, socketName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a holder that nobody needs leaves its socket: %v", err)
	}
}

func TestHolderThatCannotBeReached(t *testing.T) {
	dir := newStore(t)
	lock, _, err := takeLock(dir, osFiles{-1, -1})
	must(t, err)
	s := newLastingSession(dir, Options{Unlock: unlockTest, Log: discardLog(), Now: time.Now})
	s.patience = 50 * time.Millisecond
	if _, err := s.find(t.Context()); !errors.Is(err, ErrHeld) {
		t.Errorf("open: %v", err)
	}
	s.patience = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.find(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open with a deadline: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { lock.release() })
	if _, err := s.find(t.Context()); err != nil {
		t.Errorf("open when the holder ends: %v", err)
	}
	must(t, s.Close())
	if _, err := s.Stats(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("call after close: %v", err)
	}
}

func TestDirectNeverHolds(t *testing.T) {
	s := newLastingSession(newStore(t), Options{Unlock: unlockTest, Direct: true, Log: discardLog(), Now: time.Now})
	s.patience = 10 * time.Millisecond
	if _, err := s.find(t.Context()); !errors.Is(err, ErrHeld) {
		t.Errorf("open: %v", err)
	}
}

func TestHolderOfAnotherVersion(t *testing.T) {
	dir := newStore(t)
	lock, _, err := takeLock(dir, osFiles{-1, -1})
	must(t, err)
	defer lock.release()
	l, _, err := listenStore(dir)
	must(t, err)
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = conn.Write([]byte("snapfs-w\x63\x00\x00\x00\x00\x00\x00\x00"))
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	_, err = Open(t.Context(), dir, Options{Unlock: unlockTest})
	if !errors.Is(err, ErrHeld) || !errors.Is(err, wire.ErrVersion) {
		t.Errorf("open: %v", err)
	}
}

func TestLongPaths(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30)+"store")
	must(t, os.MkdirAll(filepath.Dir(dir), 0o700))
	must(t, os.Rename(newStore(t), dir))
	holder := startProcess(t, dir, "")
	st := openStore(t, dir)
	if isHolder(st) {
		t.Error("the other process was not reached")
	}
	holder.kill(t)
	ids, _ := putAll(t, st, "d", "one", blobs(1, 10))
	if !isHolder(st) {
		t.Error("not the holder")
	}
	checkAll(t, st, ids, blobs(1, 10))
	closeStore(t, st)
}

func TestHoldersOfDifferentUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const uid = 12345
	top, err := os.MkdirTemp("", "store-users-")
	must(t, err)
	defer os.RemoveAll(top)
	must(t, os.Chmod(top, 0o755))
	binary := filepath.Join(top, "test")
	copyFile(t, os.Args[0], binary)
	dir := filepath.Join(top, "store")
	must(t, os.Rename(newStore(t), dir))
	as := func(uid uint32) string {
		p := &process{cmd: exec.Command(binary, "-test.run=^TestOtherProcess$")}
		p.cmd.Dir = "/"
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		p.start(t, dir, "")
		defer p.in.Close()
		return p.line(t)
	}
	if got := as(uid); !strings.Contains(got, ErrNotOwner.Error()) {
		t.Errorf("a stranger is told %q", got)
	}
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, uid))
	}))
	st := openStore(t, dir) // root holds it for the owner
	putAll(t, st, "d", "one", blobs(1, 10))
	if got := as(uid); got != "ready" {
		t.Errorf("the owner is told %q while root holds the store", got)
	}
	if got := as(uid + 1); !strings.Contains(got, ErrNotOwner.Error()) {
		t.Errorf("a stranger is told %q", got)
	}
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var s unix.Stat_t
		if err := errors.Join(err, unix.Lstat(path, &s)); err != nil {
			return err
		}
		if s.Uid != uid {
			t.Errorf("%s belongs to %d", path, s.Uid)
		}
		return nil
	}))
	closeStore(t, st)
	if got := as(uid); got != "ready" {
		t.Errorf("the owner is told %q after root closed the store", got)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, errors.Join(err, out.Close()))
}

func TestStrangersAtTheSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	a, b := unixPair(t)
	dir := t.TempDir()
	must(t, checkPeer(a, dir)) // root
	must(t, os.Chown(dir, 12345, 12345))
	must(t, checkPeer(b, dir))
	peer, err := peerOf(a)
	if err != nil || peer.Uid != 0 || int(peer.Pid) != os.Getpid() {
		t.Errorf("peer %+v, %v", peer, err)
	}
}

func TestSlowHolderIsNamed(t *testing.T) {
	dir := newStore(t)
	lock, _, err := takeLock(dir, osFiles{-1, -1})
	must(t, err)
	l, _, err := listenStore(dir) // and never answers
	must(t, err)
	said := make(chan string, 1)
	s := newLastingSession(dir, Options{Unlock: unlockTest, Now: time.Now, Log: slog.New(slog.NewTextHandler(writerFunc(func(b []byte) {
		said <- string(b)
	}), nil))})
	s.slow = time.Millisecond
	s.patience = time.Millisecond
	go func() {
		if line := <-said; !strings.Contains(line, fmt.Sprintf("pid=%d", os.Getpid())) {
			t.Errorf("said %q", line)
		}
		lock.release()
		l.Close()
	}()
	if _, err := s.find(t.Context()); err != nil {
		t.Errorf("open when the slow holder has ended: %v", err)
	}
	must(t, s.Close())
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

func unixPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	must(t, err)
	defer l.Close()
	a, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	must(t, err)
	b, err = l.AcceptUnix()
	must(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestErrorsTravel(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("x: %w", ErrNotFound), ErrExists, fmt.Errorf("%w: %w", ErrWriteFailed, ErrNoSpace),
		&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}, ErrNewerFormat, ErrConfig, ErrNoStore,
	} {
		got := fromWire(toWire(err))
		if got.Error() != err.Error() {
			t.Errorf("%q became %q", err, got)
		}
		for _, s := range travelling {
			if errors.Is(got, s) != errors.Is(err, s) {
				t.Errorf("%v: is %v: %v", err, s, errors.Is(got, s))
			}
		}
	}
	for _, want := range []error{
		&CorruptError{Volume: volume.ID{1}, Offset: -1, ID: ID{2}, Err: errors.New("bad sum")},
		&CorruptError{Err: errors.New("bad sum")},
		&MissingError{Kind: KindNode, ID: ID{3}},
		&MissingError{},
		&LockedError{Name: "n", Job: "j"},
		&LockedError{},
	} {
		err := fromWire(toWire(fmt.Errorf("wrapped: %w", want)))
		got := reflect.New(reflect.TypeOf(want))
		if !errors.As(err, got.Interface()) || !reflect.DeepEqual(got.Elem().Interface(), want) {
			t.Errorf("%#v became %#v", want, err)
		}
	}
	if err := fromWire(toWire(fmt.Errorf("x: %w", ErrClosed))); !errors.Is(err, wire.ErrConnLost) {
		t.Errorf("the holder's end became %v", err)
	}
	plain := errors.New("plain")
	if err := fromWire(toWire(plain)); err != plain {
		t.Errorf("a plain error became %v", err)
	}
	if err := fromWire(&wire.Error{Code: codeStore, Text: "text", Data: []byte{0xff}}); err == nil || err.Error() != "text" {
		t.Errorf("malformed data: %v", err)
	}
}

func BenchmarkRemote(b *testing.B) {
	st := openStore(b, newStore(b))
	defer closeStore(b, st)
	s := newLastingSession(st.Dir(), Options{Direct: true, Log: discardLog(), Now: time.Now})
	defer s.Close()
	ids := make([]ID, 256)
	for i := range ids {
		ids[i] = ID{byte(i), 1}
	}
	b.Run("have 256", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Have(b.Context(), ids); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("put 256 KiB", func(b *testing.B) {
		f, _ := packOf(st.keys, blobs(1, 256<<10)...)
		b.SetBytes(256 << 10)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Put(b.Context(), f); err != nil {
				b.Fatal(err)
			}
		}
	})
}
