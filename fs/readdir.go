package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/snapshot"
)

// Directory offsets: 0 is the start, 1 after ".", 2 after "..". From there an offset is made of what stays the same
// whatever comes and goes: in a snapshot the entry's position, in the root the dataset's number, in a dataset
// directory the slot ("latest" stands first).
const (
	afterDot    = 1
	afterDotDot = 2
	afterLatest = 3
)

// listing collects directory entries for one reply.
type listing struct {
	*fuse.DirEntryList
	plus bool
	refs int64 // references the kernel takes with this reply
}

// add appends an entry without attributes and reports whether there was room. With READDIRPLUS node 0 says that
// attributes are to be looked up when wanted.
func (l *listing) add(name string, id uint64, mode uint32, next uint64) bool {
	e := fuse.DirEntry{Name: name, Ino: id, Mode: mode, Off: next}
	if l.plus {
		return l.AddDirLookupEntry(e) != nil
	}
	return l.AddDirEntry(e)
}

// ReadDir lists a directory.
func (s *server) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return s.list(in, &listing{DirEntryList: out})
}

// ReadDirPlus lists a directory with the attributes of its entries.
func (s *server) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return s.list(in, &listing{DirEntryList: out, plus: true})
}

func (s *server) list(in *fuse.ReadIn, l *listing) fuse.Status {
	if slot, _ := splitID(in.NodeId); slot == 0 {
		return s.listOwn(in.NodeId, in.Offset, l)
	}
	dir, err := s.node(in.NodeId)
	if err != nil {
		return s.fail("list", in.NodeId, err)
	}
	if dir.Type != snapshot.TypeDir {
		return fuse.ENOTDIR
	}
	if in.Offset < afterDotDot && !s.listDots(in, &dir, l) {
		return fuse.OK
	}
	return s.listEntries(in, &dir, l)
}

func (s *server) listDots(in *fuse.ReadIn, dir *node, l *listing) bool {
	if in.Offset < afterDot && !l.add(".", in.NodeId, syscall.S_IFDIR, afterDot) {
		return false
	}
	return l.add("..", s.parentOf(in.NodeId, dir), syscall.S_IFDIR, afterDotDot)
}

// listEntries lists a directory of a snapshot. Position p is followed by offset p+2, and offset o begins at position
// o-1: no entry stands at position 0.
func (s *server) listEntries(in *fuse.ReadIn, dir *node, l *listing) fuse.Status {
	from := uint32(max(in.Offset, afterDotDot) - 1)
	before := l.Offset
	err := dir.List(s.ctx, dir.Found, from, func(f snapshot.Found) bool { return s.listOne(dir, f, l) })
	dir.shown.refs.Add(l.refs)
	if err != nil && l.Offset == before {
		return s.fail("list", in.NodeId, err)
	}
	return fuse.OK // an error after some entries is met again, and told, by the next request
}

func (s *server) listOne(dir *node, f snapshot.Found, l *listing) bool {
	n := node{dir.openTree, f}
	if f.Linked {
		record, err := dir.Follow(s.ctx, f)
		if err != nil { // the name stays visible; looking it up tells the error
			return l.add(f.Name, fuse.FUSE_UNKNOWN_INO, typeBits(f.Type), uint64(f.Position)+afterDotDot)
		}
		n.Found = record
	}
	id := nodeID(dir.shown.Slot, n.Position)
	e := fuse.DirEntry{Name: f.Name, Ino: id, Mode: typeBits(n.Type), Off: uint64(f.Position) + afterDotDot}
	if !l.plus {
		return l.AddDirEntry(e)
	}
	out := l.AddDirLookupEntry(e)
	if out == nil {
		return false
	}
	out.NodeId, out.EntryValid, out.AttrValid = id, forever, forever
	s.attr(&out.Attr, id, &n)
	l.refs++
	if n.Type == snapshot.TypeDir {
		s.parents.put(id, dir.Position)
	}
	return true
}

// listOwn lists the root or a dataset directory. Attributes are left to lookups: those of a snapshot's directory need
// its manifest.
func (s *server) listOwn(id, offset uint64, l *listing) fuse.Status {
	v := s.view.Load()
	kind, number := splitOwn(id)
	if kind != ownRoot && kind != ownDataset {
		return fuse.ENOTDIR
	}
	if offset < afterDot && !l.add(".", id, syscall.S_IFDIR, afterDot) {
		return fuse.OK
	}
	if offset < afterDotDot && !l.add("..", rootID, syscall.S_IFDIR, afterDotDot) {
		return fuse.OK
	}
	if kind == ownRoot {
		listDatasets(v, offset, l)
		return fuse.OK
	}
	if d := v.byNumber[number]; d != nil { // else it is gone: empty for whoever is inside
		listSnapshots(d, offset, l)
	}
	return fuse.OK
}

// listDatasets: dataset n is followed by offset n+3.
func listDatasets(v *view, offset uint64, l *listing) {
	for _, d := range v.datasets {
		next := uint64(d.Number) + afterDotDot + 1
		if next > offset && !l.add(d.Name, datasetID(d.Number), syscall.S_IFDIR, next) {
			return
		}
	}
}

// listSnapshots: slot n is followed by offset n+3; no slot is 0.
func listSnapshots(d *dataset, offset uint64, l *listing) {
	if offset < afterLatest && d.latest != nil &&
		!l.add(latestName, latestID(d.latest.Slot), syscall.S_IFLNK, afterLatest) {
		return
	}
	for _, sh := range d.snapshots {
		next := uint64(sh.Slot) + afterLatest
		if next > offset && !l.add(sh.Name, nodeID(sh.Slot, 0), syscall.S_IFDIR, next) {
			return
		}
	}
}
