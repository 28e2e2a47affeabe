package fs

import (
	"context"
	"fmt"
	"path"
	"time"

	"snapfs/snapshot"
)

// node is what a node id of a snapshot stands for.
type node struct {
	*openTree
	snapshot.Found
}

// openTree is a snapshot opened for reading.
type openTree struct {
	*snapshot.Tree
	shown *shown

	rootMode    uint32 // permission bits of the snapshot's directory
	hideRootACL bool   // it would allow more than rootMode
}

// trees opens snapshots when they are looked at.
type trees struct {
	src   source
	how   settings
	cache *snapshot.Cache
	open  *lru[uint32, *openTree]
}

func newTrees(src source, how settings) *trees {
	return &trees{src: src, how: how, cache: snapshot.NewCache(how.pageBytes), open: newLRU[uint32, *openTree](keptTrees)}
}

// get returns a snapshot's tree. Two at once may open it twice, which harms nobody.
func (t *trees) get(ctx context.Context, sh *shown) (*openTree, error) {
	if o, ok := t.open.get(sh.Slot); ok {
		return o, nil
	}
	tree, err := snapshot.OpenTree(ctx, t.src, t.src.PageKey(), sh.ID, t.cache)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", sh.ID, err)
	}
	o := &openTree{Tree: tree, shown: sh, rootMode: tree.Root().Mode}
	if t.how.enclosed {
		o.enclose()
	}
	t.open.put(sh.Slot, o)
	return o, nil
}

// enclose makes the snapshot's directory no more open than its source's parents were. Then an ACL of its own must not
// let in whom they kept out.
func (o *openTree) enclose() {
	m := o.Manifest()
	mode := enclosed(&m.Root, o.rootMode, m.Above)
	if mode == o.rootMode {
		return
	}
	if acl := findXattr(m.Root.Xattrs, aclAccess); acl != nil {
		mode &= stricter(o.rootMode, acl)
	} else if !m.Root.XattrsID.IsZero() {
		mode &^= 0o077
	}
	o.rootMode, o.hideRootACL = mode, true
}

// tree returns the tree of a slot the mount shows or has shown.
func (s *server) tree(slot uint32) (*openTree, error) {
	sh := s.view.Load().bySlot[slot]
	if sh == nil {
		return nil, errStale
	}
	return s.trees.get(s.ctx, sh)
}

// node finds what a node id of a snapshot stands for.
func (s *server) node(id uint64) (node, error) {
	if n, ok := s.nodes.get(id); ok {
		return n, nil
	}
	slot, position := splitID(id)
	t, err := s.tree(slot)
	if err != nil {
		return node{}, err
	}
	found, err := t.At(s.ctx, position)
	if err != nil {
		return node{}, fmt.Errorf("position %d: %w", position, err)
	}
	n := node{t, found}
	s.nodes.put(id, n)
	return n, nil
}

// parentOf returns the node id of the directory above a directory.
func (s *server) parentOf(id uint64, n *node) uint64 {
	slot, position := splitID(id)
	if position == 0 {
		return datasetID(n.shown.DatasetNumber)
	}
	if p, ok := s.parents.get(id); ok {
		return nodeID(slot, p)
	}
	p, err := n.PathAt(s.ctx, position)
	if err != nil {
		return 0
	}
	above, err := n.Walk(s.ctx, path.Dir(p))
	if err != nil {
		return 0
	}
	s.parents.put(id, above.Position)
	return nodeID(slot, above.Position)
}

// whereLimit bounds the search for a name of a linked file that could not be read.
const whereLimit = 5 * time.Second

// where names what a node id stands for, for people.
func (s *server) where(id uint64) (snap, name string) {
	slot, position := splitID(id)
	sh := s.view.Load().bySlot[slot]
	if sh == nil {
		return fmt.Sprintf("slot %d", slot), fmt.Sprintf("inode %d", id)
	}
	snap = sh.Dataset + "@" + sh.Name
	t, err := s.trees.get(s.ctx, sh)
	if err != nil {
		return snap, "/"
	}
	if position&snapshot.LinkBit != 0 {
		return snap, s.whereLinked(t, position)
	}
	name, err = t.PathAt(s.ctx, position)
	if err != nil {
		return snap, fmt.Sprintf("entry %d", position)
	}
	return snap, name
}

// whereLinked finds the first name of a linked file, below directories that have linked names.
func (s *server) whereLinked(t *openTree, position uint32) string {
	ctx, cancel := context.WithTimeout(s.ctx, whereLimit)
	defer cancel()
	rec, err := t.At(ctx, position)
	if err != nil {
		return fmt.Sprintf("linked file %d", position&^snapshot.LinkBit)
	}
	if name := findLinked(ctx, t, t.Root(), rec.Entry); name != "" {
		return name
	}
	return fmt.Sprintf("file with source inode %d", rec.Inode)
}

func findLinked(ctx context.Context, t *openTree, dir snapshot.Found, rec *snapshot.Entry) string {
	var name string
	var below []snapshot.Found
	_ = t.List(ctx, dir, 0, func(f snapshot.Found) bool { // what cannot be read is not searched
		switch {
		case f.Linked && f.FS == rec.FS && f.Inode == rec.Inode:
			name = "/" + f.Name
		case f.Type == snapshot.TypeDir && f.Totals.Linked > 0:
			below = append(below, f)
		}
		return name == ""
	})
	for _, d := range below {
		if name != "" {
			return name
		}
		if sub := findLinked(ctx, t, d, rec); sub != "" {
			name = "/" + d.Name + sub
		}
	}
	return name
}
