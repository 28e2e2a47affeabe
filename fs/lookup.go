package fs

import (
	"errors"
	iofs "io/fs"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/snapshot"
)

// Lookup finds a name in a directory. An absent one is answered with node 0, which the kernel remembers.
func (s *server) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	*out = fuse.EntryOut{EntryValid: forever, AttrValid: forever}
	if slot, _ := splitID(in.NodeId); slot == 0 {
		return s.lookupOwn(in.NodeId, name, out)
	}
	dir, err := s.node(in.NodeId)
	if err != nil {
		return s.fail("lookup", in.NodeId, err)
	}
	child, err := s.child(&dir, name)
	if errors.Is(err, iofs.ErrNotExist) && !isDamage(err) { // the kernel would remember it
		return absent(name)
	}
	if err != nil {
		return s.fail("lookup "+name, in.NodeId, err)
	}
	s.enter(out, &child)
	if child.Type == snapshot.TypeDir {
		s.nodes.put(out.NodeId, child) // what is looked up is soon looked into
		s.parents.put(out.NodeId, dir.Position)
	}
	return fuse.OK
}

// child finds a name in a directory of a snapshot and follows it into the link tree.
func (s *server) child(dir *node, name string) (node, error) {
	if dir.Type != snapshot.TypeDir {
		return node{}, errNotDirectory
	}
	found, err := dir.Tree.Lookup(s.ctx, dir.Found, name)
	if err != nil {
		return node{}, err
	}
	if found.Linked {
		found, err = dir.Follow(s.ctx, found)
	}
	return node{dir.openTree, found}, err
}

// enter fills out with a node and counts the kernel's reference to it.
func (s *server) enter(out *fuse.EntryOut, n *node) {
	out.NodeId = nodeID(n.shown.Slot, n.Position)
	out.EntryValid, out.AttrValid = forever, forever
	s.attr(&out.Attr, out.NodeId, n)
	n.shown.refs.Add(1)
}

// lookupOwn finds a name in the root or in a dataset directory.
func (s *server) lookupOwn(dir uint64, name string, out *fuse.EntryOut) fuse.Status {
	v := s.view.Load()
	kind, number := splitOwn(dir)
	switch kind {
	case ownRoot:
		if d := v.byName[name]; d != nil {
			return s.enterOwn(out, datasetID(d.Number))
		}
		return absent(name)
	case ownDataset:
		d := v.byNumber[number]
		if d == nil {
			return fuse.Status(syscall.ESTALE)
		}
		if name == latestName && d.latest != nil {
			return s.enterOwn(out, latestID(d.latest.Slot))
		}
		if sh := d.byName[name]; sh != nil {
			return s.enterSnapshot(out, sh)
		}
		return absent(name)
	}
	return fuse.ENOTDIR
}

// absent answers for a name that is not there, as other file systems do for one that is too long. (The sources of a few have longer ones, so
// it was looked up all the same.)
func absent(name string) fuse.Status {
	if len(name) > nameMax {
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	return fuse.OK
}

func (s *server) enterOwn(out *fuse.EntryOut, id uint64) fuse.Status {
	out.NodeId = id
	return s.ownAttr(id, &out.Attr)
}

// enterSnapshot answers with a snapshot's directory. The kernel reaches everything below through it, so here, before
// the first reference, the snapshot is pinned.
func (s *server) enterSnapshot(out *fuse.EntryOut, sh *shown) fuse.Status {
	id := nodeID(sh.Slot, 0)
	if err := s.pin(sh); err != nil {
		return s.fail("pin", id, err)
	}
	t, err := s.trees.get(s.ctx, sh)
	if err != nil {
		return s.fail("open", id, err)
	}
	s.change.RLock()
	defer s.change.RUnlock()
	if s.view.Load().bySlot[sh.Slot] == nil { // forgotten meanwhile
		s.unpin(sh)
		return s.fail("open", id, errStale)
	}
	s.enter(out, &node{t, t.Root()})
	return fuse.OK
}

// Readlink returns the target of a symbolic link.
func (s *server) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	if slot, _ := splitID(in.NodeId); slot == 0 {
		return s.readLatest(in.NodeId)
	}
	n, err := s.node(in.NodeId)
	if err != nil {
		return nil, s.fail("readlink", in.NodeId, err)
	}
	if n.Type != snapshot.TypeSymlink {
		return nil, fuse.EINVAL
	}
	return []byte(n.Target), fuse.OK
}

func (s *server) readLatest(id uint64) ([]byte, fuse.Status) {
	kind, slot := splitOwn(id)
	sh := s.view.Load().bySlot[slot]
	switch {
	case kind != ownLatest:
		return nil, fuse.EINVAL
	case sh == nil:
		return nil, fuse.Status(syscall.ESTALE)
	}
	return []byte(sh.Name), fuse.OK
}

// fail turns an error into errno, and logs once per node and error what a program could not be given.
func (s *server) fail(op string, id uint64, err error) fuse.Status {
	st := toErrno(err)
	if st == fuse.EIO && s.report.first(id, err) {
		snap, name := s.where(id)
		s.report.log.Error("cannot read", "snapshot", snap, "path", name, "request", op, "err", err)
	}
	return st
}
