package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// passingVariable makes all tests of the package restore from chunks that come by: "all" of them, or "some"; with "doubt" it is not
// certain before the end that this is what is wanted.
const passingVariable = "SNAPFS_TEST_PASSING"

// TestAllAsTheyPass runs the tests of the package once more with content that comes in an order of its own.
func TestAllAsTheyPass(t *testing.T) {
	if os.Getenv(passingVariable) != "" {
		t.Skip("this is it")
	}
	for _, which := range []string{"all", "some", "doubt"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			skip := "Places|Records|Unfinished|PipeBreaks|FewDescriptors|NotCome|Doubt" // which always have a pipe
			if which == "doubt" {
				skip += "|InTheWay" // and stays there
			}
			cmd := exec.Command(os.Args[0], "-test.skip="+skip)
			cmd.Env = append(os.Environ(), passingVariable+"="+which)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// runThrough is Run, through a pipe if the tests are run so.
func runThrough(t testing.TB, ctx context.Context, r Reader, tree *snapshot.Tree, o Options) (*Result, error) {
	if which := os.Getenv(passingVariable); which != "" {
		p := newPiped(t, r, tree, which == "some")
		p.doubt = which == "doubt"
		r = p
	}
	return Run(ctx, r, tree, o)
}

// piped is a Reader whose chunks come by in a random order, some of them twice; with some, every third can be read at any time.
type piped struct {
	Reader
	order []store.ID
	here  map[store.ID]bool
	once  bool
	fails error // when all has come
	doubt bool  // until then
}

func newPiped(t testing.TB, r Reader, tree *snapshot.Tree, some bool) *piped {
	p := &piped{Reader: r, here: map[store.ID]bool{}}
	ctx := context.Background()
	seen := map[store.ID]bool{}
	note := func(e *snapshot.Entry) {
		_ = tree.Items(ctx, e, 0, func(_ int64, it snapshot.Item) bool {
			if !it.ID.IsZero() && !seen[it.ID] {
				seen[it.ID] = true
				p.order = append(p.order, it.ID)
				p.here[it.ID] = some && len(p.order)%3 == 0
			}
			return true
		})
	}
	var walk func(dir snapshot.Found)
	walk = func(dir snapshot.Found) {
		_ = tree.List(ctx, dir, 0, func(f snapshot.Found) bool {
			if f.Type == snapshot.TypeDir {
				walk(f)
			} else {
				note(f.Entry)
			}
			return true
		})
	}
	walk(tree.Root())
	_ = tree.Links(ctx, func(f snapshot.Found) bool { note(f.Entry); return true })
	rand.Shuffle(len(p.order), func(i, j int) { p.order[i], p.order[j] = p.order[j], p.order[i] })
	p.order = append(p.order, p.order[:len(p.order)/4]...)
	return p
}

func (p *piped) BlobID(kind store.Kind, data []byte) store.ID {
	if n, ok := p.Reader.(namer); ok {
		return n.BlobID(kind, data)
	}
	return snapshottest.New().IDOf(kind, data)
}

func (p *piped) Locate(_ context.Context, ids []store.ID) ([]store.Place, error) {
	places := make([]store.Place, len(ids))
	for i, id := range ids {
		if p.here[id] {
			places[i].Stored = 1
		}
	}
	return places, nil
}

func (p *piped) GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error) {
	if !p.here[id] {
		return nil, &store.MissingError{Kind: kind, ID: id}
	}
	return p.Reader.GetInto(ctx, kind, id, dst)
}

func (p *piped) Passes() bool { return true }

func (p *piped) Certain() bool { return !p.doubt || p.once }

func (p *piped) Pass(ctx context.Context, wanted func(store.ID) bool, take func(store.ID, []byte) error, enough func() bool) error {
	if p.once {
		panic("a pipe is read once")
	}
	p.once = true
	const workers = 3
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for n := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := n; i < len(p.order) && errs[n] == nil && !enough(); i += workers {
				id := p.order[i]
				if !wanted(id) {
					continue
				}
				data, err := p.Reader.GetInto(ctx, store.KindChunk, id, nil)
				if err == nil {
					errs[n] = take(id, slices.Clone(data))
				} else if ctx.Err() != nil {
					errs[n] = ctx.Err()
				}
			}
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return p.fails
}

// ErrNotCome is all that a restore through a pipe knows of damage; without one it would hide what was found.
func TestNotComeOnlyFromPipes(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/f", noise(1, 3*testChunk), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	f, err := tree.Walk(t.Context(), "f")
	ok(t, err)
	blobs.Drop(f.Content.Items[1].ID)
	for _, r := range []Reader{blobs, newPiped(t, blobs, tree, false)} {
		var failed error
		_, err := Run(t.Context(), r, tree, Options{To: t.TempDir(), OnError: func(e *snapshot.PathError) { failed = e }})
		ok(t, err)
		if _, piped := r.(Passing); errors.Is(failed, ErrNotCome) != piped {
			t.Errorf("%T: %v", r, failed)
		}
	}
}

// TestChunkInThousandsOfPlaces has one chunk in many places of a file, of many files, and spilled tables.
func TestChunkInThousandsOfPlaces(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()+"/dst"
	same5 := noise(5, testChunk)
	for i := range 300 {
		write(t, fmt.Sprintf("%s/d%d/f%d", src, i%17, i), append(noise(int64(i), testChunk), same5...), 0o644)
	}
	f, err := os.Create(src + "/many")
	ok(t, err)
	for i := range 3000 {
		_, err := f.WriteAt(same5, int64(i)*testChunk)
		ok(t, err)
	}
	_, err = f.WriteAt(same5, 4000*testChunk) // behind a hole
	ok(t, err)
	ok(t, f.Truncate(5000*testChunk))
	ok(t, f.Close())
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	p := newPiped(t, blobs, tree, false)
	res, err := Run(t.Context(), p, tree, withErrors(t, Options{To: dst, Verify: true}))
	ok(t, err)
	same(t, src, dst)
	if res.Written != res.Entries || len(p.order) > 400 {
		t.Errorf("%+v, %d chunks", res, len(p.order))
	}
	if res, err = Run(t.Context(), newPiped(t, blobs, tree, false), tree, withErrors(t, Options{To: dst})); err != nil || res.Equal != res.Entries {
		t.Errorf("again: %+v %v", res, err)
	}
}

// TestOpenPlaces asks the table, in memory and spilled, for everything that was put in, and for what was not.
func TestOpenPlaces(t *testing.T) {
	for _, n := range []int{0, 1, placePage - 1, placePage, 5000, 700_000} {
		p := newOpenPlaces(t.TempDir())
		want := map[store.ID]int{}
		for i := range n {
			id := store.ID(sha256.Sum256(fmt.Append(nil, i/3)))
			if i%1000 < 500 {
				id = store.ID(sha256.Sum256(fmt.Append(nil, i/1000))) // in hundreds of places
			}
			ok(t, p.add(id, place{uint32(i), int64(i) << 33, uint32(i)}))
			want[id]++
		}
		ok(t, p.settle())
		if spilled := p.file != nil; spilled != (n > 524_288) {
			t.Errorf("%d: spilled %v", n, spilled)
		}
		if p.left() != len(want) || p.wants(store.ID(noise(-1, 32))) {
			t.Errorf("%d: %d missing, want %d", n, p.left(), len(want))
		}
		for id, places := range want {
			first, there, err := p.claim(id)
			ok(t, err)
			got := 0
			ok(t, p.each(first, id, func(at place) error {
				got++
				if at.offset != int64(at.file)<<33 || at.length != at.file {
					return fmt.Errorf("%+v", at)
				}
				return nil
			}))
			if _, twice, _ := p.claim(id); !there || got != places || twice || p.wants(id) {
				t.Fatalf("%d: %x: there %v, in %d places of %d, twice %v", n, id, there, got, places, twice)
			}
		}
		if p.left() != 0 {
			t.Errorf("%d: %d left", n, p.left())
		}
		p.close()
	}
}

// TestRecordsWithoutRoom: a list that could not be spilled still has what it had, and takes more when there is room.
func TestRecordsWithoutRoom(t *testing.T) {
	l := newRecords(4, t.TempDir())
	defer l.close()
	own := l.scratch
	l.scratch = func() (*os.File, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) }
	most := uint32(recordsInMemory / 4)
	add := func(i uint32) error {
		number, err := l.add(binary.LittleEndian.AppendUint32(nil, i))
		if err == nil && number != i {
			t.Fatalf("record %d has number %d", i, number)
		}
		return err
	}
	for i := range most {
		ok(t, add(i))
	}
	for range 2 {
		if err := add(most); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("no room: %v", err)
		}
	}
	l.scratch = own
	ok(t, add(most))
	seen := uint32(0)
	ok(t, l.each(func(number uint32, b []byte) error {
		if seen++; binary.LittleEndian.Uint32(b) != number {
			return fmt.Errorf("record %d is %x", number, b)
		}
		return nil
	}))
	if seen != most+1 {
		t.Errorf("%d records, want %d", seen, most+1)
	}
}

// TestRecords compares a list with what was put in, in memory and spilled.
func TestRecords(t *testing.T) {
	for _, n := range []uint32{0, 10, 2 * recordsInMemory / 12} {
		l := newRecords(12, t.TempDir())
		record := func(i, salt uint32) []byte {
			b := make([]byte, 12)
			binary.LittleEndian.PutUint32(b, i)
			binary.LittleEndian.PutUint32(b[8:], salt)
			return b
		}
		for i := range n {
			number, err := l.add(record(i, 1))
			ok(t, err)
			if number != i {
				t.Fatalf("record %d has number %d", i, number)
			}
		}
		for i := uint32(0); i < n; i += 7 {
			ok(t, l.write(i, record(i, 2)))
		}
		seen := uint32(0)
		ok(t, l.each(func(number uint32, b []byte) error {
			salt := uint32(1)
			if number%7 == 0 {
				salt = 2
			}
			if seen++; !bytes.Equal(b, record(number, salt)) {
				return fmt.Errorf("record %d is %x", number, b)
			}
			return nil
		}))
		if seen != n || (l.file != nil) != (n > recordsInMemory/12) {
			t.Errorf("%d records of %d, spilled %v", seen, n, l.file != nil)
		}
		l.close()
	}
}

// meddler does something between two chunks.
type meddler struct {
	*piped
	after int
	do    func()
}

func (m *meddler) Pass(ctx context.Context, wanted func(store.ID) bool, take func(store.ID, []byte) error, enough func() bool) error {
	var mu sync.Mutex
	n := 0
	return m.piped.Pass(ctx, wanted, func(id store.ID, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n == m.after {
			m.do()
		}
		return take(id, data)
	}, enough)
}

// TestUnfinishedFileIsReplaced: who can write at the destination puts links under the names of unfinished files. Nothing is written through
// them.
func TestUnfinishedFileIsReplaced(t *testing.T) {
	src, outside := t.TempDir(), t.TempDir()+"/outside"
	for i := range 2 * mostHandles {
		write(t, fmt.Sprintf("%s/f%d", src, i), noise(int64(i), 3*testChunk), 0o644)
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for _, plant := range []func(string) error{
		func(name string) error { return os.Symlink(outside, name) },
		func(name string) error { return os.Link(outside, name) },
		func(name string) error { return os.WriteFile(name, []byte("mine"), 0o600) },
	} {
		write(t, outside, []byte("untouched"), 0o600)
		dst := t.TempDir()
		planted := 0
		p := &meddler{piped: newPiped(t, blobs, tree, false), after: 400, do: func() {
			names, _ := filepath.Glob(dst + "/.snapfs-*")
			for _, name := range names {
				ok(t, os.Remove(name))
				ok(t, plant(name))
				planted++
			}
		}}
		moved := 0
		res, err := Run(t.Context(), p, tree, Options{To: dst, OnError: func(e *snapshot.PathError) {
			if moved++; !errors.Is(e, ErrMoved) && !errors.Is(e, fs.ErrNotExist) && !errors.Is(e, unix.ELOOP) {
				t.Error(e)
			}
		}})
		ok(t, err)
		if data, _ := os.ReadFile(outside); string(data) != "untouched" {
			t.Fatal("written through what was planted")
		}
		if planted < mostHandles || moved == 0 || res.Written+int64(moved) != res.Entries {
			t.Errorf("planted %d, %d errors, %+v", planted, moved, res)
		}
	}
}

// TestPipeBreaks: the pipe fails in the middle; what is unfinished is removed, and the next run finishes.
func TestPipeBreaks(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()+"/dst"
	everything(t, src)
	for i := range 60 {
		write(t, fmt.Sprintf("%s/many/%d/f%d", src, i%7, i), noise(int64(i), i*9000), 0o644)
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	unlockLater(t, dst)
	broken := errors.New("broken")
	for _, after := range []int{0, 20, 100} {
		p := newPiped(t, blobs, tree, false)
		p.order = p.order[:after]
		p.fails = broken
		if _, err := Run(t.Context(), p, tree, withErrors(t, Options{To: dst})); !errors.Is(err, broken) {
			t.Fatalf("after %d: %v", after, err)
		}
		noLeftovers(t, dst)
	}
	p := newPiped(t, blobs, tree, false)
	res, err := Run(t.Context(), p, tree, withErrors(t, Options{To: dst, Verify: true}))
	ok(t, err)
	if res.Equal == 0 {
		t.Errorf("%+v", res)
	}
	same(t, src, dst)
}

// TestFewDescriptors restores with hardly any descriptors, more unfinished files than can be open.
func TestFewDescriptors(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()+"/dst"
	for i := range 400 {
		write(t, fmt.Sprintf("%s/d%d/e%d/f%d", src, i%40, i%3, i), noise(int64(i), 2*testChunk+i), 0o644)
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	before := descriptors(t)
	most := 0
	p := &meddler{piped: newPiped(t, blobs, tree, false), after: 700, do: func() { most = descriptors(t) }}
	_, err := Run(t.Context(), p, tree, withErrors(t, Options{To: dst, openDirs: 8, Scratch: t.TempDir()}))
	ok(t, err)
	same(t, src, dst)
	if most > before+30 {
		t.Errorf("%d descriptors more", most-before)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are left", after-before)
	}
}

func descriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	ok(t, err)
	return len(list)
}
