package snapshot

import (
	"errors"
	"fmt"

	"snapfs/store"
)

// References calls visit for every blob that a stored blob names: what must be kept with it. Blobs named twice are
// visited twice. A manifest's parent and the origin of an import are no references: a snapshot is complete without them.
// Fields that are not known are stepped over, as everywhere; one that named blobs would have its critical bit set.
// Errors wrap ErrMalformed or store.ErrNewerFormat; what was visited before is valid.
func References(kind store.Kind, data []byte, visit func(store.Kind, store.ID)) error {
	var err error
	switch kind {
	case store.KindManifest:
		err = manifestReferences(data, visit)
	case store.KindNode:
		err = pageReferences(data, visit)
	case store.KindChunk, store.KindXattrs:
	default:
		err = malformed("blob of kind %d", kind)
	}
	if err != nil {
		return fmt.Errorf("references: %w", wrapFields(err))
	}
	return nil
}

// wrapFields makes malformed fields what other malformed things are.
func wrapFields(err error) error {
	if errors.Is(err, store.ErrFields) && !errors.Is(err, ErrMalformed) {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return err
}

func manifestReferences(data []byte, visit func(store.Kind, store.ID)) error {
	m, _, err := decodeManifest(data)
	if err != nil {
		return err
	}
	entryReferencesOf(&m.Root, visit)
	for i := range m.Above {
		entryReferencesOf(&m.Above[i], visit)
	}
	visitID(store.KindNode, m.LinkTree, visit)
	return nil
}

func entryReferencesOf(e *Entry, visit func(store.Kind, store.ID)) {
	visitID(store.KindXattrs, e.XattrsID, visit)
	visitID(store.KindNode, e.Dir, visit)
	visitID(store.KindNode, e.Content.List, visit)
	for _, it := range e.Content.Items {
		visitID(store.KindChunk, it.ID, visit)
	}
}

func visitID(kind store.Kind, id store.ID, visit func(store.Kind, store.ID)) {
	if !id.IsZero() {
		visit(kind, id)
	}
}

// pageReferences reads no more of a page than where it leads: a tenth of the cost of decoding it, and no allocation.
func pageReferences(data []byte, visit func(store.Kind, store.ID)) error {
	kind, level, records := uint64(0), uint64(0), []byte(nil)
	r := store.ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case pageFieldKind:
			kind = r.Uint()
		case pageFieldLevel:
			level = r.Uint()
		case pageFieldOwners:
		case pageFieldRecords:
			records = r.Bytes()
		default:
			r.Unknown()
		}
	}
	switch {
	case r.Err() != nil:
		return r.Err()
	case kind < uint64(pageDirectory) || kind > uint64(pageLinks):
		return malformed("page of kind %d", kind)
	case level > maxLevel:
		return malformed("page of level %d", level)
	case len(records) == 0:
		return malformed("empty page")
	case level > 0:
		return eachRecord(records, visit, branchReferences)
	case kind == uint64(pageContent):
		return itemReferences(records, maxPage, visit)
	}
	return eachRecord(records, visit, entryReferences)
}

func eachRecord(records []byte, visit func(store.Kind, store.ID), f func([]byte, func(store.Kind, store.ID)) error) error {
	for n := 0; len(records) > 0; n++ {
		record, rest, err := store.CutBytes(records)
		if err == nil {
			err = f(record, visit)
		}
		if err != nil {
			return err
		}
		if n == maxPage {
			return malformed("more than %d records in a page", maxPage)
		}
		records = rest
	}
	return nil
}

func branchReferences(record []byte, visit func(store.Kind, store.ID)) error {
	below := store.ID{}
	r := store.ReadFields(record)
	for r.Next() {
		switch {
		case r.Tag() == branchPage:
			below = r.ID()
		case r.Tag() > branchHoles:
			r.Unknown()
		}
	}
	if r.Err() == nil && below.IsZero() {
		return malformed("branch without a page")
	}
	visitID(store.KindNode, below, visit)
	return r.Err()
}

func entryReferences(record []byte, visit func(store.Kind, store.ID)) error {
	r := store.ReadFields(record)
	for r.Next() {
		switch {
		case r.Tag() == entryXattrsID:
			visitID(store.KindXattrs, r.ID(), visit)
		case r.Tag() == entryList, r.Tag() == entryDir:
			visitID(store.KindNode, r.ID(), visit)
		case r.Tag() == entryItems:
			if err := itemReferences(r.Bytes(), inlineItems, visit); err != nil {
				return err
			}
		case r.Tag() > entryLastTag:
			r.Unknown()
		}
	}
	return r.Err()
}

func itemReferences(data []byte, limit int, visit func(store.Kind, store.ID)) error {
	for n := 0; len(data) > 0; n++ {
		it, rest, err := cutItem(data)
		if err != nil {
			return err
		}
		if n == limit {
			return malformed("more than %d items", limit)
		}
		visitID(store.KindChunk, it.ID, visit)
		data = rest
	}
	return nil
}
