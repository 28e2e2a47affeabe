package snapshot

import (
	"encoding/binary"
	"math"

	"snapfs/store"
)

// inlineItems is how many items an entry holds itself; longer lists have pages. On disk in effect: the same
// content must always be written in the same way.
const inlineItems = 4

// appendItem appends uvarint(length<<1 | hole) and, for a chunk, its ID.
func appendItem(buf []byte, it Item) []byte {
	n := uint64(it.Length) << 1
	if it.ID.IsZero() {
		return binary.AppendUvarint(buf, n|1)
	}
	buf = binary.AppendUvarint(buf, n)
	return append(buf, it.ID[:]...)
}

func cutItem(data []byte) (it Item, rest []byte, err error) {
	n, rest, err := store.CutUvarint(data)
	if err != nil {
		return it, nil, err
	}
	it.Length = int64(n >> 1)
	if it.Length == 0 {
		return it, nil, malformed("item without length")
	}
	if n&1 == 1 {
		return it, rest, nil
	}
	if len(rest) < len(it.ID) {
		return it, nil, malformed("item cut short")
	}
	copy(it.ID[:], rest)
	if it.ID.IsZero() {
		return it, nil, malformed("chunk without id")
	}
	return it, rest[len(it.ID):], nil
}

// cutItems appends all items of a list to items; neighbouring holes and lengths beyond int64 are refused.
func cutItems(items []Item, data []byte, limit int) ([]Item, error) {
	var total int64
	hole := false
	for n := 0; len(data) > 0; n++ {
		it, rest, err := cutItem(data)
		switch {
		case err != nil:
			return nil, err
		case n == limit:
			return nil, malformed("more than %d items", limit)
		case it.ID.IsZero() && hole:
			return nil, malformed("two holes side by side")
		case it.Length > math.MaxInt64-total:
			return nil, malformed("content too long")
		}
		total += it.Length
		hole = it.ID.IsZero()
		items, data = append(items, it), rest
	}
	return items, nil
}
