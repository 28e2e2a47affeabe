package snapshot

import (
	"context"
	"encoding/binary"
	"fmt"

	"snapfs/store"
)

// pager cuts a sorted sequence of records into pages and puts them as they fill, with levels above when
// there is more than one. It keeps the open page of each level. Not safe for concurrent use.
type pager struct {
	sink    Sink
	kind    pageKind
	pageKey [32]byte
	hash    *store.CutHash // made when first needed: most directories fit into a page
	levels  []*level
	owners  ownerTable // of the open leaf
	out     []byte     // the page being put
	keyBuf  []byte
	recBuf  []byte
}

// level is the open page of a level.
type level struct {
	records []byte
	n       int
	first   key
	sum     sums
}

// room puts the open page of a level if the record with this key must begin a new one.
func (p *pager) room(ctx context.Context, lvl int, k key) error {
	if lvl == len(p.levels) {
		if lvl > maxLevel {
			return fmt.Errorf("%w: too many levels of pages", ErrTooManyEntries)
		}
		p.addLevel()
	}
	if p.cuts(lvl, k) {
		return p.flush(ctx, lvl)
	}
	return nil
}

// addLevel opens one more level, with the buffer of an earlier use if there is one.
func (p *pager) addLevel() {
	n := len(p.levels)
	if n < cap(p.levels) && p.levels[:n+1][n] != nil {
		p.levels = p.levels[:n+1]
		*p.levels[n] = level{records: p.levels[n].records[:0]}
		return
	}
	p.levels = append(p.levels, new(level))
}

// cuts is the cut rule.
func (p *pager) cuts(lvl int, k key) bool {
	n := p.levels[lvl].n
	if n < minPage || n >= maxPage {
		return n >= maxPage
	}
	b := p.keyBuf[:0]
	switch {
	case p.kind == pageLinks:
		b = binary.LittleEndian.AppendUint32(b, k.fs)
		b = binary.LittleEndian.AppendUint64(b, k.inode)
	case k.name == "":
		return false // a hole
	default:
		b = append(b, k.name...)
	}
	p.keyBuf = b
	if p.hash == nil {
		p.hash = store.NewCutHash(p.pageKey)
	}
	return p.hash.Sum(b)>>(cutBits*lvl)&(1<<cutBits-1) == 0
}

// add appends a record for which room was made.
func (p *pager) add(lvl int, k key, rec []byte, s sums) {
	l := p.levels[lvl]
	if l.n == 0 {
		l.first = k
	}
	if p.kind == pageContent && lvl == 0 {
		l.records = append(l.records, rec...)
	} else {
		l.records = store.AppendBytes(l.records, rec)
	}
	l.n++
	l.sum.add(s)
}

// put stores the open page of a level and empties it.
func (p *pager) put(ctx context.Context, lvl int) (branch, error) {
	l := p.levels[lvl]
	f := store.AppendFields(p.out[:0])
	f.Uint(pageFieldKind, uint64(p.kind))
	f.Uint(pageFieldLevel, uint64(lvl))
	if lvl == 0 {
		f.Bytes(pageFieldOwners, p.owners.encode())
		p.owners.reset()
	}
	f.Bytes(pageFieldRecords, l.records)
	p.out = f.Encoded()
	b := branch{first: l.first, sum: l.sum}
	*l = level{records: l.records[:0]}
	var err error
	if b.id, err = p.sink.Put(ctx, store.KindNode, p.out); err != nil {
		return b, fmt.Errorf("storing a node: %w", err)
	}
	return b, nil
}

// flush puts the open page of a level and records it in the level above.
func (p *pager) flush(ctx context.Context, lvl int) error {
	b, err := p.put(ctx, lvl)
	if err != nil {
		return err
	}
	if err := p.room(ctx, lvl+1, b.first); err != nil {
		return err
	}
	p.recBuf = appendBranch(p.recBuf[:0], p.kind, &b)
	p.add(lvl+1, b.first, p.recBuf, b.sum)
	return nil
}

// finish puts what is open, up to the one page at the top. The pager can be used anew afterwards.
func (p *pager) finish(ctx context.Context) (root store.ID, sum sums, err error) {
	if len(p.levels) == 0 {
		return root, sum, nil
	}
	lvl := 0
	for ; lvl < len(p.levels)-1; lvl++ {
		if err := p.flush(ctx, lvl); err != nil {
			return root, sum, err
		}
	}
	top, err := p.put(ctx, lvl)
	p.levels = p.levels[:0]
	if top.sum.Entries > maxEntries {
		return root, sum, ErrTooManyEntries
	}
	return top.id, top.sum, err
}
