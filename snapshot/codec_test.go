package snapshot

import (
	"bytes"
	"context"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// samples are entries that use every field.
func samples() []Entry {
	common := Entry{
		FS: 2, Inode: math.MaxUint64, Mode: 0o7777, Flags: 0x10, UID: 4_000_000_000, GID: 7, User: "alice", Group: "staff",
		Mtime: Time{-1, 999_999_999}, Ctime: Time{math.MaxInt64, 0}, Btime: Time{math.MinInt64, 1},
		Xattrs: []Xattr{{"security.capability", []byte{1, 0, 2}}, {"user.empty", []byte{}}},
	}
	with := func(name string, t Type, change func(*Entry)) Entry {
		e := common
		e.Name, e.Type = name, t
		if change != nil {
			change(&e)
		}
		return e
	}
	return []Entry{
		{Name: "\x01\xff\n", Type: TypeFile, FS: 2},
		with("block", TypeBlock, func(e *Entry) { e.Rdev = math.MaxUint64 }),
		with("char", TypeChar, func(e *Entry) { e.Rdev = 259; e.UID = 0; e.User = "" }),
		with("dir", TypeDir, func(e *Entry) { e.FS = 0; e.Dir = store.ID{9}; e.Totals = Totals{3, math.MaxUint64, 2} }),
		with("empty dir", TypeDir, nil),
		with("fifo", TypeFIFO, func(e *Entry) { e.Fresh = true }),
		with("file", TypeFile, func(e *Entry) {
			e.Size = math.MaxInt64
			e.Content.Items = []Item{{ID: store.ID{1}, Length: 5}, {Length: 1 << 40}, {ID: store.ID{31: 1}, Length: 1}}
		}),
		with("huge", TypeFile, func(e *Entry) { e.Size = 1 << 40; e.Content.List = store.ID{5}; e.Content.Holes = 1 << 39 }),
		{Name: "linked", Type: TypeFile, Linked: true, FS: 1, Inode: 77},
		with("socket", TypeSocket, func(e *Entry) { e.Xattrs = nil; e.XattrsID = store.ID{3} }),
		with("symlink", TypeSymlink, func(e *Entry) { e.Target = strings.Repeat("\xfe/", 2047); e.Size = 4094 }),
		with(strings.Repeat("z", 255), TypeFile, nil),
	}
}

// reencode writes a decoded page again.
func reencode(t testing.TB, p *page, fs uint32) []byte {
	t.Helper()
	var sink kept
	w := pager{sink: &sink, kind: p.kind}
	for range p.level + 1 {
		w.levels = append(w.levels, new(level))
	}
	for i := range p.len() {
		switch {
		case p.level > 0:
			w.add(p.level, key{}, appendBranch(nil, p.kind, &p.branches[i]), sums{})
		case p.kind == pageContent:
			w.add(0, key{}, appendItem(nil, p.items[i]), sums{})
		case p.kind == pageLinks:
			w.add(0, key{}, appendEntry(nil, &p.entries[i], inLinkTree, 0, &w.owners), sums{})
		default:
			w.add(0, key{}, appendEntry(nil, &p.entries[i], inDirectory, fs, &w.owners), sums{})
		}
	}
	if _, err := w.put(context.Background(), p.level); err != nil {
		t.Fatal(err)
	}
	return sink.data
}

// kept keeps what was put last.
type kept struct{ data []byte }

func (k *kept) Put(_ context.Context, _ store.Kind, data []byte) (store.ID, error) {
	k.data = bytes.Clone(data)
	return store.ID{1}, nil
}

func writeDir(t testing.TB, sink Sink, fs uint32, entries []Entry) (store.ID, Totals) {
	t.Helper()
	w := NewDirWriter(sink, testKey, fs)
	for i := range entries {
		if err := w.Add(context.Background(), &entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	id, totals, err := w.Finish(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return id, totals
}

func TestEntriesRoundTrip(t *testing.T) {
	var sink kept
	_, totals := writeDir(t, &sink, 2, samples())
	if want := (Totals{15, math.MaxUint64, 3}); totals != want {
		t.Errorf("totals %+v, want %+v", totals, want)
	}
	p, err := decodePage(sink.data, pageDirectory, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range samples() {
		if !reflect.DeepEqual(p.entries[i], want) {
			t.Errorf("got  %+v\nwant %+v", p.entries[i], want)
		}
	}
	written := sink.data
	writeDir(t, &sink, 2, p.entries) // as a backup does with its parent's
	if !bytes.Equal(written, sink.data) {
		t.Error("what was read is not written in the same way")
	}
	if got := reencode(t, p, 2); !bytes.Equal(got, sink.data) {
		t.Errorf("encoded again\n%x\n%x", got, sink.data)
	}
	other, err := decodePage(sink.data, pageDirectory, 5)
	if err != nil || other.entries[0].FS != 5 || other.entries[3].FS != 0 {
		t.Errorf("on another file system: %v", err)
	}
}

// What does not belong to a type is not stored: the entry is the same without it.
func TestEntryFieldsOfOtherTypes(t *testing.T) {
	var a, b kept
	e := Entry{Name: "d", Type: TypeDir, Mode: 0o700}
	writeDir(t, &a, 0, []Entry{e})
	e.Size, e.Rdev, e.Target, e.Nlink = 4096, 5, "x", 9
	writeDir(t, &b, 0, []Entry{e})
	if !bytes.Equal(a.data, b.data) {
		t.Error("a directory's size was stored")
	}
}

func TestDirWriterRefuses(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		entry Entry
		want  error
	}{
		"no name":             {Entry{Type: TypeFile}, ErrName},
		"dot":                 {Entry{Name: ".", Type: TypeDir}, ErrName},
		"dot dot":             {Entry{Name: "..", Type: TypeDir}, ErrName},
		"slash":               {Entry{Name: "a/b", Type: TypeFile}, ErrName},
		"NUL":                 {Entry{Name: "a\x00", Type: TypeFile}, ErrName},
		"before the last":     {Entry{Name: "a", Type: TypeFile}, ErrOrder},
		"the last again":      {Entry{Name: "m", Type: TypeFile}, ErrOrder},
		"no type":             {Entry{Name: "z"}, ErrEntry},
		"unknown type":        {Entry{Name: "z", Type: 8}, ErrEntry},
		"mode":                {Entry{Name: "z", Type: TypeFile, Mode: 0o10000}, ErrEntry},
		"nanoseconds":         {Entry{Name: "z", Type: TypeFile, Ctime: Time{0, 1e9}}, ErrEntry},
		"size":                {Entry{Name: "z", Type: TypeFile, Size: -1}, ErrEntry},
		"linked directory":    {Entry{Name: "z", Type: TypeDir, Linked: true}, ErrEntry},
		"totals of nothing":   {Entry{Name: "z", Type: TypeDir, Totals: Totals{Entries: 1}}, ErrEntry},
		"page without totals": {Entry{Name: "z", Type: TypeDir, Dir: store.ID{1}}, ErrEntry},
		"too many items":      {Entry{Name: "z", Type: TypeFile, Content: Content{Items: make([]Item, 5)}}, ErrEntry},
		"empty item":          {Entry{Name: "z", Type: TypeFile, Content: Content{Items: make([]Item, 1)}}, ErrEntry},
		"items and list":      {Entry{Name: "z", Type: TypeFile, Content: Content{Items: []Item{{Length: 1}}, List: store.ID{1}}}, ErrEntry},
		"holes of items":      {Entry{Name: "z", Type: TypeFile, Size: 1, Content: Content{Items: []Item{{Length: 1}}, Holes: 1}}, ErrEntry},
		"more holes":          {Entry{Name: "z", Type: TypeFile, Size: 1, Content: Content{List: store.ID{1}, Holes: 2}}, ErrEntry},
		"holes side by side":  {Entry{Name: "z", Type: TypeFile, Content: Content{Items: []Item{{Length: 1}, {Length: 1}}}}, ErrEntry},
		"target with NUL":     {Entry{Name: "z", Type: TypeSymlink, Target: "a\x00"}, ErrEntry},
		"attributes unsorted": {Entry{Name: "z", Type: TypeFile, Xattrs: []Xattr{{"user.b", nil}, {"user.a", nil}}}, ErrEntry},
		"large attributes":    {Entry{Name: "z", Type: TypeFile, Xattrs: []Xattr{{"user.b", make([]byte, 2000)}}}, ErrEntry},
		"two attribute sets":  {Entry{Name: "z", Type: TypeFile, Xattrs: []Xattr{{"user.b", nil}}, XattrsID: store.ID{1}}, ErrEntry},
	} {
		w := NewDirWriter(snapshottest.New(), testKey, 0)
		if err := w.Add(ctx, &Entry{Name: "m", Type: TypeFile}); err != nil {
			t.Fatal(err)
		}
		if err := w.Add(ctx, &c.entry); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestTooManyEntries(t *testing.T) {
	ctx := context.Background()
	w := NewDirWriter(snapshottest.New(), testKey, 0)
	for _, name := range []string{"a", "b"} {
		e := Entry{Name: name, Type: TypeDir, Dir: store.ID{1}, Totals: Totals{Entries: 1<<30 - 1}}
		if name == "b" {
			e.Totals.Entries++
		}
		if err := w.Add(ctx, &e); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := w.Finish(ctx); !errors.Is(err, ErrTooManyEntries) {
		t.Errorf("2^31+1 entries: %v", err)
	}
}

func TestXattrs(t *testing.T) {
	ctx := context.Background()
	b := snapshottest.New()
	large := []Xattr{{"user.z", bytes.Repeat([]byte{1}, 600)}, {"user.a", bytes.Repeat([]byte{2}, 600)}}
	small := []Xattr{{"user.z", []byte{0}}, {"user.a", nil}}
	for _, set := range [][]Xattr{nil, small, large} {
		e := Entry{Name: "f", Type: TypeFile, Xattrs: []Xattr{{"user.old", nil}}, XattrsID: store.ID{8}}
		if err := WriteXattrs(ctx, b, &e, set); err != nil {
			t.Fatal(err)
		}
		if stored := !e.XattrsID.IsZero(); stored != (len(set) > 0 && len(set[0].Value) > 100) || stored && e.Xattrs != nil {
			t.Errorf("%d attributes: stored apart is %v", len(set), stored)
		}
		tree := open(t, b, Manifest{Root: buildAsIs(t, b, dirModel{"f": e})})
		f, err := tree.Walk(ctx, "/f")
		if err != nil {
			t.Fatal(err)
		}
		got, err := tree.Xattrs(ctx, f.Entry)
		if err != nil || len(got) != len(set) {
			t.Fatalf("%d attributes, %v", len(got), err)
		}
		for i, x := range got {
			want := set[len(set)-1-i]
			if x.Name != want.Name || !bytes.Equal(x.Value, want.Value) {
				t.Errorf("attribute %d is %q", i, x.Name)
			}
		}
	}
	if err := WriteXattrs(ctx, b, new(Entry), []Xattr{{"user.a", nil}, {"user.a", nil}}); !errors.Is(err, ErrEntry) {
		t.Errorf("same name twice: %v", err)
	}
	if _, err := open(t, b, Manifest{Root: Entry{Type: TypeDir}}).Xattrs(ctx, &Entry{XattrsID: store.ID{4}}); !isNode(err, store.KindXattrs) {
		t.Errorf("missing set: %v", err)
	}
}

func isNode(err error, kind store.Kind) bool {
	var n *NodeError
	return errors.As(err, &n) && n.Kind == kind
}

func sampleManifest() *Manifest {
	at := time.Date(2026, 11, 22, 3, 15, 7, 5, time.UTC)
	above := samples()[3]
	above.Name = ""
	return &Manifest{
		Dataset: "etc", Name: "2026-11-22_03-15-07", Host: "h", User: "u", Paths: []string{"/etc", "/\xff"}, Excludes: []string{"*.o", ""},
		Start: at, End: at.Add(time.Second), Offset: -3600, Parent: store.ID{1}, Root: samples()[3], Single: true, Above: []Entry{above, samples()[4]},
		LinkTree: store.ID{2}, Links: 5, FileSystems: []FileSystem{{}, {1, "/", "ext4", "uuid"}, {9, "/boot", "vfat", ""}},
		Totals: Totals{4, 5, 6}, Errors: []FileError{{"/etc/x", "permission denied"}, {"", ""}}, ErrorCount: 20_000, Found: FoundByScan,
		Tags: []string{"a", "b"}, Program: "snapfs 1", Unstable: 3, StartedEarlier: true, OriginStore: "o", OriginSnapshot: store.ID{3},
		IgnoreFiles: true, ExcludeCaches: true, OneFileSystem: true, ExcludeLargerThan: 1 << 30, OnlyListed: true,
	}
}

func TestManifestRoundTrip(t *testing.T) {
	ctx := context.Background()
	b := snapshottest.New()
	for _, m := range []*Manifest{sampleManifest(), {Root: Entry{Type: TypeDir}}, {Root: Entry{Type: TypeDir}, Start: time.Unix(0, 0).UTC(), End: time.Unix(-1, 7).UTC()}} {
		id, err := WriteManifest(ctx, b, m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadManifest(ctx, b, id)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%v\ngot  %+v\nwant %+v", err, got, m)
		}
	}
	if _, err := WriteManifest(ctx, b, &Manifest{Root: Entry{Type: TypeFile}}); !errors.Is(err, ErrEntry) {
		t.Errorf("a file as root: %v", err)
	}
	if _, err := ReadManifest(ctx, b, store.ID{7}); !isNode(err, store.KindManifest) {
		t.Errorf("missing manifest: %v", err)
	}
}

func TestManifestErrorsBounded(t *testing.T) {
	ctx := context.Background()
	b := snapshottest.New()
	for path, want := range map[string]int{"x": MaxErrors, strings.Repeat("x", 4096): 254} {
		m := &Manifest{Root: Entry{Type: TypeDir}}
		for range 12_000 {
			m.Errors = append(m.Errors, FileError{path, "permission denied"})
		}
		id, err := WriteManifest(ctx, b, m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadManifest(ctx, b, id)
		if err != nil || len(got.Errors) != want || got.ErrorCount != 12_000 {
			t.Errorf("%v: %d errors kept, want %d, of %d", err, len(got.Errors), want, got.ErrorCount)
		}
	}
}

func sampleSummary() *Summary {
	return &Summary{
		Host: "h", User: "u", Paths: []string{"/a", "/b"}, Parent: store.ID{1}, End: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Offset: 3600,
		Entries: 1, Bytes: 2, BytesStored: 3, Errors: 4, Single: true, HasXattrs: true, Program: "snapfs 1",
	}
}

func TestSummaryRoundTrip(t *testing.T) {
	active := sampleSummary()
	active.Activity = Activity{New: 5, Changed: 6, Unchanged: 7, Removed: 8, Rewritten: 9, Novel: 10, Dense: 11}
	for _, s := range []*Summary{{}, sampleSummary(), active, {HasXattrs: true, XattrKinds: XattrACL | XattrOther}} {
		got, err := ParseSummary(s.Encode())
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%v\ngot  %+v\nwant %+v", err, got, s)
		}
	}
	if _, err := ParseSummary([]byte{1}); !errors.Is(err, store.ErrFields) {
		t.Errorf("rubbish: %v", err)
	}
}

// A later program may add fields: they are skipped, or refused if they are critical.
func TestLaterFields(t *testing.T) {
	add := func(data []byte, tag store.Tag) []byte {
		f := store.AppendFields(nil)
		f.Uint(tag, 1)
		return append(bytes.Clone(data), f.Encoded()...)
	}
	s := sampleSummary().Encode()
	if _, err := ParseSummary(add(s, 99)); err != nil {
		t.Error(err)
	}
	if _, err := ParseSummary(add(s, 99|store.Critical)); !errors.Is(err, store.ErrNewerFormat) {
		t.Error(err)
	}
	var sink kept
	writeDir(t, &sink, 0, samples())
	if _, err := decodePage(add(sink.data, 99), pageDirectory, 0); err != nil {
		t.Error(err)
	}
	if _, err := decodePage(add(sink.data, 99|store.Critical), pageDirectory, 0); !errors.Is(err, store.ErrNewerFormat) {
		t.Error(err)
	}
}
