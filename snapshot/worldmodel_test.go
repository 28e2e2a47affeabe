package snapshot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// world is a model of a source over time: paths to inodes. Names of a hard link share an inode.
type world struct {
	r         *rand.Rand
	paths     map[string]*Entry // "/" is the root directory
	nextInode uint64
	clock     int64
	list      []string // what pick chooses from; rebuilt now and then
}

func newWorld(seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 0)), paths: map[string]*Entry{}}
	w.paths["/"] = w.newEntry(TypeDir)
	return w
}

// clone returns an equal world that shares nothing.
func (w *world) clone() *world {
	c := *w
	c.list = slices.Clone(w.list)
	c.paths = make(map[string]*Entry, len(w.paths))
	inodes := make(map[*Entry]*Entry, len(w.paths))
	for path, e := range w.paths {
		if inodes[e] == nil {
			copied := *e
			inodes[e] = &copied
		}
		c.paths[path] = inodes[e]
	}
	return &c
}

func (w *world) tick() Time {
	w.clock++
	return Time{Sec: w.clock, Nsec: uint32(w.clock % 7)}
}

func (w *world) newEntry(t Type) *Entry {
	w.nextInode++
	e := &Entry{Type: t, Inode: w.nextInode, Mode: 0o644, User: "u", Mtime: w.tick()}
	e.Ctime = e.Mtime
	w.fill(e)
	return e
}

// fill gives a file other content.
func (w *world) fill(e *Entry) {
	switch e.Type {
	case TypeFile:
		e.Content, e.Size = Content{}, 0
		for range w.r.IntN(3) {
			var id store.ID
			for i := range id {
				id[i] = byte(w.r.Uint32())
			}
			n := int64(1 + w.r.IntN(1000))
			e.Content.Items = append(e.Content.Items, Item{ID: id, Length: n})
			e.Size += n
		}
	case TypeSymlink:
		e.Target = fmt.Sprint("target", w.r.IntN(1000))
		e.Size = int64(len(e.Target))
	case TypeChar:
		e.Rdev = uint64(w.r.IntN(1000))
	}
}

// sorted returns the paths at and below path, a directory before what is in it.
func (w *world) sorted(below string) []string {
	var list []string
	for p := range w.paths {
		if p == below || below == "/" || strings.HasPrefix(p, below+"/") {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, comparePaths)
	return list
}

// comparePaths compares name by name.
func comparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == b[i]:
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		default:
			return int(a[i]) - int(b[i])
		}
	}
	return len(a) - len(b)
}

// pick returns a random path of one of the types; "" if there is none.
func (w *world) pick(types ...Type) string {
	if 4*len(w.list) < 3*len(w.paths) || 3*len(w.list) > 4*len(w.paths) {
		w.list = w.sorted("/")
	}
	for range 50 {
		p := w.list[w.r.IntN(len(w.list))]
		if e := w.paths[p]; e != nil && slices.Contains(types, e.Type) {
			return p
		}
	}
	if slices.Contains(types, TypeDir) {
		return "/"
	}
	return ""
}

func (w *world) newPath() string {
	return joinPath(w.pick(TypeDir), fmt.Sprintf("%c%d", "ab.\xff-Z"[w.r.IntN(6)], w.r.IntN(100_000)))
}

func (w *world) add(path string, e *Entry) {
	if w.paths[path] == nil {
		w.paths[path] = e
	}
}

func (w *world) removeAll(path string) {
	for _, p := range w.sorted(path) {
		delete(w.paths, p)
	}
}

var anyFile = []Type{TypeFile, TypeSymlink, TypeFIFO, TypeChar}

// mutate does one random thing.
func (w *world) mutate() {
	all := append(slices.Clone(anyFile), TypeDir)
	switch w.r.IntN(14) {
	case 0, 1:
		w.add(w.newPath(), w.newEntry(all[w.r.IntN(len(all))]))
	case 2:
		if p := w.pick(all...); p != "/" {
			w.removeAll(p)
		}
	case 3:
		if p := w.pick(anyFile...); p != "" {
			w.fill(w.paths[p])
			w.paths[p].Mtime = w.tick()
		}
	case 4:
		w.paths[w.pick(all...)].Mode ^= uint32(1 + w.r.IntN(0o777))
	case 5:
		w.paths[w.pick(all...)].UID = uint32(w.r.IntN(5))
	case 6:
		w.paths[w.pick(all...)].Xattrs = []Xattr{{"user.x", []byte(fmt.Sprint(w.r.IntN(9)))}}
	case 7:
		e := w.paths[w.pick(all...)]
		e.Ctime, e.Fresh = w.tick(), !e.Fresh // no change to report
	case 8:
		w.paths[w.pick(all...)].Mtime = w.tick()
	case 9, 10: // another name of a file, which has no effect on its other directory
		if p := w.pick(anyFile...); p != "" {
			w.add(w.newPath(), w.paths[p])
		}
	case 11: // another type
		if p := w.pick(all...); p != "/" {
			w.removeAll(p)
			w.paths[p] = w.newEntry(all[w.r.IntN(len(all))])
		}
	case 12: // a file moves
		if p := w.pick(anyFile...); p != "" {
			e := w.paths[p]
			delete(w.paths, p)
			w.add(w.newPath(), e)
		}
	case 13:
		w.paths[w.pick(all...)].Flags ^= 0x10
	}
}

// grow adds n entries, a good part of them in one directory.
func (w *world) grow(n int) {
	for range n / 2 {
		w.mutate()
	}
	dir := w.newPath()
	w.add(dir, w.newEntry(TypeDir))
	for i := range n / 2 {
		w.add(joinPath(dir, fmt.Sprint("n", i)), w.newEntry(TypeFile))
	}
}

// save writes the world as a snapshot and returns its manifest's ID.
func (w *world) save(t testing.TB, b *snapshottest.Blobs, change ...func(*Manifest)) store.ID {
	t.Helper()
	ctx := context.Background()
	links := NewLinkWriter(testKey, "")
	defer links.Close()
	names := map[*Entry]int{}
	children := map[string][]string{}
	for p, e := range w.paths {
		names[e]++
		if p != "/" {
			dir := p[:max(1, strings.LastIndexByte(p, '/'))]
			children[dir] = append(children[dir], p)
		}
	}
	m := Manifest{Root: *w.saveDir(t, b, links, "/", children, names), Single: true}
	m.Totals = m.Root.Totals
	var bytes uint64
	var err error
	if m.LinkTree, m.Links, bytes, err = links.Finish(ctx, b); err != nil {
		t.Fatal(err)
	}
	m.Totals.Bytes += bytes
	for _, f := range change {
		f(&m)
	}
	id, err := WriteManifest(ctx, b, &m)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (w *world) saveDir(t testing.TB, b *snapshottest.Blobs, links *LinkWriter, path string, children map[string][]string, names map[*Entry]int) *Entry {
	t.Helper()
	ctx := context.Background()
	dw := NewDirWriter(b, testKey, 0)
	slices.Sort(children[path])
	for _, p := range children[path] {
		e := *w.paths[p]
		if e.Type == TypeDir {
			e = *w.saveDir(t, b, links, p, children, names)
		}
		if names[w.paths[p]] > 1 {
			if links.Name(e.FS, e.Inode) {
				if err := links.Set(&e); err != nil {
					t.Fatal(err)
				}
			}
			e = Entry{Type: e.Type, Linked: true, FS: e.FS, Inode: e.Inode}
		}
		e.Name = p[strings.LastIndexByte(p, '/')+1:]
		if err := dw.Add(ctx, &e); err != nil {
			t.Fatal(err)
		}
	}
	e := *w.paths[path]
	var err error
	if e.Dir, e.Totals, err = dw.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	return &e
}

// open saves the world and opens the snapshot.
func (w *world) open(t testing.TB, b *snapshottest.Blobs) *Tree {
	t.Helper()
	tree, err := OpenTree(context.Background(), b, testKey, w.save(t, b), nil)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}
