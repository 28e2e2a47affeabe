package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"snapfs/store/volume"
)

// journalFact is a fact as it stands in a journal.
type journalFact struct {
	*Fact
	id     ID
	volume volume.ID
	offset int64 // of its frame
}

// journal is what one journal volume holds.
type journal struct {
	id     volume.ID
	size   int64 // up to which it was read
	facts  []journalFact
	harmed bool // something in it cannot be read
}

// readJournal reads all facts of a journal, whatever the index says of it.
func (e *engine) readJournal(id volume.ID, size int64) (*journal, error) {
	j := &journal{id: id, size: size}
	file, err := e.files.Open(volumePath(e.dir, id))
	if errors.Is(err, fs.ErrNotExist) {
		j.harmed = true
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", id, err)
	}
	defer file.Close()
	aead, err := e.bundle.VolumeAEAD(id)
	if err != nil {
		return nil, err
	}
	_, gaps, err := volume.ScanPayloads(file, 0, size, id, func(offset int64, h volume.Header, stored []byte, damage error) error {
		if h.Kind != volume.FrameFacts {
			return nil
		}
		var news found
		if damage == nil {
			var plain []byte
			if _, plain, damage = volume.OpenFrame(stored, id, aead); damage == nil {
				damage = news.addPlain(plain, e.idKeys)
			}
		}
		if errors.Is(damage, ErrNewerFormat) {
			return damage
		}
		j.harmed = j.harmed || damage != nil
		for i, f := range news.facts {
			j.facts = append(j.facts, journalFact{f, news.ids[i], id, offset})
		}
		return nil
	})
	j.harmed = j.harmed || len(gaps) > 0
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", id, err)
	}
	return j, nil
}

func (n *found) addPlain(plain []byte, keys idKeys) error {
	pack, err := volume.ParsePack(plain)
	if err != nil {
		return err
	}
	return n.add(pack, keys)
}

// journalsAt lists the journals on disk with their lengths: up to what is synced of the one that this process writes. Needs
// commitMu.
func (e *engine) journalsAt() []journal {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []journal
	for id, v := range e.volumes.byID {
		if v.kind != volume.Journal || v.missing || v.dropped {
			continue
		}
		size := v.size
		if e.journal != nil && e.journal.id == id {
			size = e.journal.w.Synced()
		}
		list = append(list, journal{id: id, size: size})
	}
	return list
}

// readJournals reads journals and gives their facts in the order of the chain, each once.
func (e *engine) readJournals(ctx context.Context, list []journal) (read []*journal, facts []journalFact, err error) {
	for _, at := range list {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		j, err := e.readJournal(at.id, at.size)
		if err != nil {
			return nil, nil, err
		}
		read, facts = append(read, j), append(facts, j.facts...)
	}
	slices.SortFunc(facts, func(a, b journalFact) int {
		if a.Seq != b.Seq {
			return sign(a.Seq < b.Seq)
		}
		return compareBytes(a.id[:], b.id[:])
	})
	return read, slices.CompactFunc(facts, func(a, b journalFact) bool { return a.id == b.id }), nil
}

// pageReader returns a pageGetter of an open store.
func (e *engine) pageReader(s Session) (get pageGetter, closeReader func() error) {
	r := newReader(e.dir, e.bundle, s, factPageCache)
	return func(ctx context.Context, id ID) ([]byte, error) { return r.get(ctx, KindNode, id) }, r.close
}

// factPageCache is for decoded frames with pages, in bytes: those that follow each other lie together.
const factPageCache = 2 << 20
