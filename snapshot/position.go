package snapshot

import (
	"context"
	"fmt"
	"strings"

	"snapfs/store"
)

// At returns what has a position: an entry (followed if linked), or with LinkBit a link-tree record (without
// a name). ErrNoPosition if there is nothing.
func (t *Tree) At(ctx context.Context, position uint32) (Found, error) {
	if position&LinkBit != 0 {
		return t.linkAt(ctx, position&^LinkBit)
	}
	f, err := t.descend(ctx, position, func(string) {})
	if err != nil {
		return Found{}, err
	}
	return t.Follow(ctx, f)
}

// PathAt returns the path, beginning with "/", of a position without LinkBit; for people.
func (t *Tree) PathAt(ctx context.Context, position uint32) (string, error) {
	var path strings.Builder
	_, err := t.descend(ctx, position, func(name string) {
		path.WriteByte('/')
		path.WriteString(name)
	})
	if err != nil {
		return "", err
	}
	if path.Len() == 0 {
		return "/", nil
	}
	return path.String(), nil
}

// descend goes from the root to a position, calling step with each name on the way. It ends, whatever the
// nodes say: each step is to a greater position, and none goes past the wanted one.
func (t *Tree) descend(ctx context.Context, position uint32, step func(name string)) (Found, error) {
	at := t.Root()
	for at.Position != position {
		if uint64(position) > uint64(at.Position)+at.Totals.Entries {
			return Found{}, fmt.Errorf("%w: %d", ErrNoPosition, position)
		}
		next, err := t.toward(ctx, at, position)
		if err != nil {
			return Found{}, err
		}
		step(next.Name)
		at = next
	}
	return at, nil
}

// toward returns the entry of a directory that has a position or has it below.
func (t *Tree) toward(ctx context.Context, dir Found, position uint32) (Found, error) {
	base := uint64(dir.Position) + 1
	p, err := t.page(ctx, dirRef(dir.Entry))
	for err == nil {
		i := p.covering(uint64(position) - base)
		if p.level == 0 {
			return found(p, i, base), nil
		}
		base += p.before[i]
		p, err = t.child(ctx, p, i, dir.FS)
	}
	return Found{}, err
}

// Follow replaces a linked entry by its record in the link tree, with the name kept; other entries are returned unchanged.
func (t *Tree) Follow(ctx context.Context, f Found) (Found, error) {
	if !f.Linked {
		return f, nil
	}
	k := key{fs: f.FS, inode: f.Inode}
	rank := uint64(0)
	p, err := t.linkRoot(ctx)
	for err == nil {
		i := p.seek(k)
		if p.level == 0 {
			if i == p.len() || p.key(i) != k {
				return Found{}, t.noRecord(f)
			}
			if p.entries[i].Type != f.Type {
				return Found{}, fmt.Errorf("%q: %w", f.Name, malformed("type %d here and %d in the link tree", f.Type, p.entries[i].Type))
			}
			e := p.entries[i]
			e.Name = f.Name
			return Found{Entry: &e, Position: LinkBit | uint32(rank+p.before[i])}, nil
		}
		rank += p.before[i]
		p, err = t.child(ctx, p, i, 0)
	}
	return Found{}, err
}

func (t *Tree) noRecord(f Found) error {
	return fmt.Errorf("%q: %w", f.Name, malformed("the link tree has no inode %d of file system %d", f.Inode, f.FS))
}

// linkRoot is the top page of the link tree.
func (t *Tree) linkRoot(ctx context.Context) (*page, error) {
	m := t.manifest
	if m.LinkTree.IsZero() {
		return nil, malformed("the snapshot has no link tree")
	}
	return t.page(ctx, ref{id: m.LinkTree, kind: pageLinks, level: -1, sum: sums{Totals: Totals{Entries: m.Links}}})
}

// linkAt returns the record with a rank.
func (t *Tree) linkAt(ctx context.Context, rank uint32) (Found, error) {
	if uint64(rank) >= t.manifest.Links {
		return Found{}, fmt.Errorf("%w: %d", ErrNoPosition, rank|LinkBit)
	}
	n := uint64(rank)
	p, err := t.linkRoot(ctx)
	for err == nil {
		i := p.covering(n)
		if p.level == 0 {
			return Found{Entry: &p.entries[i], Position: rank | LinkBit}, nil
		}
		n -= p.before[i]
		p, err = t.child(ctx, p, i, 0)
	}
	return Found{}, err
}

// Links calls fn for every record of the link tree, in order of (FS, Inode), until fn returns false.
func (t *Tree) Links(ctx context.Context, fn func(Found) bool) error {
	if t.manifest.LinkTree.IsZero() {
		return nil
	}
	p, err := t.linkRoot(ctx)
	if err != nil {
		return err
	}
	_, err = t.links(ctx, p, 0, fn)
	return err
}

func (t *Tree) links(ctx context.Context, p *page, rank uint64, fn func(Found) bool) (more bool, err error) {
	for i := range p.len() {
		if p.level == 0 {
			if !fn(Found{Entry: &p.entries[i], Position: LinkBit | uint32(rank+p.before[i])}) {
				return false, nil
			}
			continue
		}
		c, err := t.child(ctx, p, i, 0)
		if err != nil {
			return false, err
		}
		if more, err := t.links(ctx, c, rank+p.before[i], fn); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// SameLinks reports whether two snapshots have the same link tree, so that linked names with the same
// (FS, Inode) have the same attributes and content.
func (t *Tree) SameLinks(o *Tree) bool { return t.LinkTree() == o.LinkTree() }

// LinkTree is the root page of the link tree; zero if no name is linked.
func (t *Tree) LinkTree() store.ID { return t.manifest.LinkTree }
