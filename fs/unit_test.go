package fs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

func TestNodeIDs(t *testing.T) {
	for _, c := range []struct {
		id       uint64
		slot     uint32
		position uint32
	}{
		{1 << 32, 1, 0}, {7<<32 | 9, 7, 9}, {maxSlot<<32 | 0xffffffff, maxSlot, 0xffffffff}, {1 << 31, 0, 1 << 31},
	} {
		if slot, position := splitID(c.id); slot != c.slot || position != c.position || nodeID(slot, position) != c.id {
			t.Errorf("%#x is slot %d position %d", c.id, slot, position)
		}
	}
	for _, c := range []struct {
		id     uint64
		kind   ownKind
		number uint32
	}{
		{rootID, ownRoot, 0}, {datasetID(3), ownDataset, 3}, {latestID(9), ownLatest, 9},
		{latestID(maxSlot), ownLatest, maxSlot}, {0, ownNone, 0}, {2, ownNone, 0},
	} {
		if kind, number := splitOwn(c.id); kind != c.kind || number != c.number {
			t.Errorf("%#x is kind %d number %d", c.id, kind, number)
		}
	}
	if nodeID(maxSlot, 0xffffffff)>>60 != 0 {
		t.Error("the top four bits are used")
	}
}

func TestLRU(t *testing.T) {
	c := newLRU[int, string](2)
	c.put(1, "one")
	c.put(2, "two")
	c.get(1)
	c.put(3, "three") // drops 2
	c.put(1, "uno")
	for k, want := range map[int]string{1: "uno", 2: "", 3: "three"} {
		if v, ok := c.get(k); v != want || ok != (want != "") {
			t.Errorf("%d: %q, %v, want %q", k, v, ok, want)
		}
	}
}

// acl builds the kernel's form; entries are tag, permissions, id.
func acl(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

func TestStricter(t *testing.T) {
	const owner, other = 0x01, 0x20
	for name, c := range map[string]struct {
		mode, want uint32
		acl        []byte
	}{
		"plain":              {0o644, 0o644, acl([3]uint32{owner, 6}, [3]uint32{aclGroupObj, 4}, [3]uint32{other, 4})},
		"group below mask":   {0o664, 0o604, acl([3]uint32{owner, 6}, [3]uint32{aclUser, 6, 9}, [3]uint32{aclGroupObj, 0}, [3]uint32{aclMask, 6}, [3]uint32{other, 4})},
		"user refused":       {0o664, 0o600, acl([3]uint32{owner, 6}, [3]uint32{aclUser, 0, 9}, [3]uint32{aclGroupObj, 6}, [3]uint32{aclMask, 6}, [3]uint32{other, 4})},
		"group refused":      {0o7777, 0o7700, acl([3]uint32{owner, 7}, [3]uint32{aclGroupObj, 7}, [3]uint32{aclGroup, 0, 9}, [3]uint32{aclMask, 7}, [3]uint32{other, 7})},
		"named below others": {0o675, 0o644, acl([3]uint32{owner, 6}, [3]uint32{aclUser, 6, 9}, [3]uint32{aclGroupObj, 7}, [3]uint32{aclMask, 4}, [3]uint32{other, 5})},
		"not understood":     {0o777, 0o700, []byte{9, 9}},
		"empty":              {0o777, 0o700, nil},
	} {
		if got := stricter(c.mode, c.acl); got != c.want {
			t.Errorf("%s: %o, want %o", name, got, c.want)
		}
	}
}

func FuzzStricter(f *testing.F) {
	f.Add(uint32(0o777), acl([3]uint32{aclUser, 3, 9}, [3]uint32{aclMask, 5}))
	f.Add(uint32(0o7777), []byte{2, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, mode uint32, acl []byte) {
		if got := stricter(mode, acl); got&^mode != 0 || got&^0o077 != mode&^0o077 {
			t.Errorf("%o from %o", got, mode)
		}
	})
}

func TestEnclosed(t *testing.T) {
	root := func(uid, gid uint32) *snapshot.Entry { return &snapshot.Entry{UID: uid, GID: gid} }
	dir := func(mode, uid, gid uint32) snapshot.Entry { return snapshot.Entry{Mode: mode, UID: uid, GID: gid} }
	for name, c := range map[string]struct {
		root  *snapshot.Entry
		above []snapshot.Entry
		want  uint32 // of 0777
	}{
		"open":                       {root(1, 1), []snapshot.Entry{dir(0o755, 0, 0), dir(0o711, 0, 0)}, 0o777},
		"private home of the owner":  {root(1, 1), []snapshot.Entry{dir(0o755, 0, 0), dir(0o700, 1, 1)}, 0o700},
		"private home of another":    {root(1, 1), []snapshot.Entry{dir(0o700, 2, 2)}, 0},
		"home for the group":         {root(1, 5), []snapshot.Entry{dir(0o750, 1, 5)}, 0o770},
		"home for another group":     {root(1, 5), []snapshot.Entry{dir(0o750, 1, 6)}, 0o700},
		"owner by another's group":   {root(1, 5), []snapshot.Entry{dir(0o750, 2, 5)}, 0o070},
		"closed to its own owner":    {root(1, 1), []snapshot.Entry{dir(0o077, 1, 1)}, 0},
		"root passes everywhere":     {root(0, 0), []snapshot.Entry{dir(0o700, 2, 2)}, 0o700},
		"the strictest counts":       {root(1, 1), []snapshot.Entry{dir(0o750, 1, 1), dir(0o700, 1, 1)}, 0o700},
		"large attribute set unread": {root(1, 1), []snapshot.Entry{{Mode: 0o755, UID: 1, GID: 1, XattrsID: store.ID{1}}}, 0o700},
		"refusing ACL": {root(1, 1), []snapshot.Entry{{Mode: 0o775, UID: 1, GID: 1, Xattrs: []snapshot.Xattr{
			{Name: aclAccess, Value: acl([3]uint32{aclUser, 0, 9}, [3]uint32{aclGroupObj, 7}, [3]uint32{aclMask, 7})}}}}, 0o700},
	} {
		if got := enclosed(c.root, 0o777, c.above); got != c.want {
			t.Errorf("%s: %o, want %o", name, got, c.want)
		}
	}
}

func TestErrno(t *testing.T) {
	for _, c := range []struct {
		err  error
		want fuse.Status
	}{
		{nil, fuse.OK},
		{fmt.Errorf("x: %w", fs.ErrNotExist), fuse.ENOENT},
		{errStale, fuse.Status(unix.ESTALE)},
		{&store.MissingError{}, fuse.EIO},
		{&store.CorruptError{Err: io.ErrUnexpectedEOF}, fuse.EIO},
		{&store.CorruptError{Err: fs.ErrNotExist}, fuse.EIO}, // a missing volume is no absent file
		{unix.ENOSYS, fuse.EIO},                              // would switch the request off for ever
		{unix.ENOENT, fuse.ENOENT},
		{io.EOF, fuse.EIO},
		{context.Canceled, fuse.EINTR},
		{errors.New("unheard of"), fuse.EIO},
	} {
		if got := toErrno(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestMountInfo(t *testing.T) {
	const text = `22 27 0:21 / /proc rw,nosuid shared:12 - proc proc rw
52 27 0:47 / /mnt/with\040space\134and\012line ro,nosuid,nodev shared:3 master:1 - fuse.snapfs /srv/the\040store ro,user_id=1000,group_id=1000
not a line
53 27 0:48 / /x y\040 rw - tmpfs none rw
`
	got, err := parseMountInfo(strings.NewReader(text))
	want := []mountInfo{
		{device: "0:21", path: "/proc", fsType: "proc", source: "proc", user: -1},
		{device: "0:47", path: "/mnt/with space\\and\nline", fsType: fsType, source: "/srv/the store", user: 1000},
		{device: "0:48", path: "/x\u00a0y ", fsType: "tmpfs", source: "none", user: -1},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v\nwant\n%+v", err, got, want)
	}
}

func FuzzMountInfo(f *testing.F) {
	f.Add("52 27 0:47 / /mnt\\040 ro - fuse.snapfs /srv\\0 user_id=1000")
	f.Add(`\999\`)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := parseMountInfo(strings.NewReader(s)); err != nil && len(s) < 1<<20 {
			t.Error(err)
		}
		if u := unescape(s); len(u) > len(s) {
			t.Errorf("%q from %q", u, s)
		}
	})
}

// testState makes a state of snapshots DATASET/NAME, an hour after each other.
func testState(list ...string) *store.State {
	s := &store.State{}
	numbers := map[string]uint32{}
	for i, text := range list {
		dataset, name, _ := strings.Cut(text, "/")
		if numbers[dataset] == 0 {
			numbers[dataset] = uint32(len(numbers) + 1)
		}
		s.Snapshots = append(s.Snapshots, store.Snapshot{
			ID: store.ID{byte(i + 1)}, Slot: uint32(i + 1), DatasetNumber: numbers[dataset], Dataset: dataset, Name: name,
			Start: testStart.Add(time.Duration(i) * time.Hour), Committed: testStart.Add(time.Duration(i) * time.Hour),
			Summary: (&snapshot.Summary{Entries: 10, Bytes: 1000}).Encode(),
		})
	}
	return s
}

func TestView(t *testing.T) {
	state := testState("b/1", "a/2", "b/3", "a/4", "a/5")
	state.Snapshots[3].Partial = true
	state.Snapshots[4].Forgotten = true
	state.Snapshots[2].Start = testStart.AddDate(-1, 0, 0) // imported late
	v := newView(state, filter{}, nil)
	if len(v.datasets) != 2 || v.datasets[0].Name != "b" || v.byName["a"].latest.Name != "2" || v.byName["b"].latest.Name != "1" {
		t.Errorf("%+v", v)
	}
	if len(v.bySlot) != 3 || v.entries != 30 || v.bytes != 3000 || v.xattrs != 0 {
		t.Errorf("%d snapshots, %d entries, %d bytes, xattrs %v", len(v.bySlot), v.entries, v.bytes, v.xattrs)
	}
	v = newView(state, filter{datasets: []string{"a"}}, nil)
	if len(v.datasets) != 1 || len(v.bySlot) != 1 {
		t.Errorf("one dataset: %+v", v)
	}
	f := filter{snapshots: []store.ID{{3}, {9}}}
	v = newView(state, f, nil)
	if len(v.bySlot) != 1 || v.bySlot[3] == nil {
		t.Errorf("one snapshot: %+v", v)
	}
	if err := f.check(v); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("snapshot that is not there: %v", err)
	}
	if err := (filter{datasets: []string{"c"}}).check(v); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("dataset that is not there: %v", err)
	}
	state.Snapshots[0].Summary = nil
	if v := newView(state, filter{}, nil); v.xattrs == 0 {
		t.Error("an unreadable summary counts as one without attributes")
	}
}

func TestViewChanges(t *testing.T) {
	old := newView(testState("a/1", "a/2", "b/3"), filter{}, nil)
	old.bySlot[1].refs.Store(5)
	state := testState("a/1", "a/2", "b/3", "a/4", "c/5")
	state.Snapshots[0].Forgotten = true
	state.Snapshots[2].Forgotten = true
	now := newView(state, filter{}, old)
	got := changes(old, now)
	want := []changedEntry{
		{datasetID(1), "1"}, {datasetID(1), "4"}, {datasetID(1), latestName}, {rootID, "b"}, {datasetID(2), "3"}, {datasetID(2), latestName}, {rootID, "c"},
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%v is missing", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if now.bySlot[1] == nil || now.bySlot[1].refs.Load() != 5 || now.bySlot[3] != nil {
		t.Error("what the kernel refers to stays, and nothing else")
	}
	renamed := testState("x/1", "x/2", "b/3")
	got = changes(old, newView(renamed, filter{}, old))
	if want := []changedEntry{{rootID, "a"}, {rootID, "x"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("renamed dataset: %v, want %v", got, want)
	}
	if n := changes(old, newView(testState("a/1", "a/2", "b/3"), filter{}, old)); len(n) != 0 {
		t.Errorf("nothing changed, but %v", n)
	}
}

// TestOffsetsSurviveChanges goes on with a walk after snapshots came and went.
func TestOffsetsSurviveChanges(t *testing.T) {
	var list []string
	for i := range 100 {
		list = append(list, fmt.Sprintf("d/%03d", i))
	}
	state := testState(list...)
	v := newView(state, filter{}, nil)
	first := &listing{DirEntryList: fuse.NewDirEntryList(make([]byte, 1000), 0)}
	listSnapshots(v.datasets[0], 0, first)
	offset := first.Offset
	seen := namesOf(t, first)

	for i := range 10 {
		state.Snapshots[i*2].Forgotten = true
	}
	v = newView(state, filter{}, v)
	rest := &listing{DirEntryList: fuse.NewDirEntryList(make([]byte, 1<<16), offset)}
	listSnapshots(v.datasets[0], offset, rest)
	seen = append(seen, namesOf(t, rest)...)
	for i := 20; i < 100; i++ {
		if name := fmt.Sprintf("%03d", i); !slices.Contains(seen, name) {
			t.Errorf("%s was not listed", name)
		}
	}
	slices.Sort(seen)
	if len(slices.Compact(slices.Clone(seen))) != len(seen) {
		t.Errorf("listed twice: %v", seen)
	}
}

func namesOf(t *testing.T, l *listing) []string {
	t.Helper()
	entries, err := fuse.ParseDirEntries(l.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name)
	}
	return all
}
