package snapshot

import "snapfs/store"

// owner is who a file belongs to: a page keeps each distinct one once.
type owner struct {
	uid, gid    uint32
	user, group string
}

func ownerOf(e *Entry) owner { return owner{e.UID, e.GID, e.User, e.Group} }

func (o owner) give(e *Entry) { e.UID, e.GID, e.User, e.Group = o.uid, o.gid, o.user, o.group }

// Fields of an owner. On disk; append only.
const (
	ownerUID   store.Tag = 1
	ownerGID   store.Tag = 2
	ownerUser  store.Tag = 3
	ownerGroup store.Tag = 4
)

func appendOwner(buf []byte, o owner) []byte {
	f := store.AppendFields(buf)
	f.Uint(ownerUID, uint64(o.uid))
	f.Uint(ownerGID, uint64(o.gid))
	f.String(ownerUser, o.user)
	f.String(ownerGroup, o.group)
	return f.Encoded()
}

func decodeOwner(data []byte) (o owner, skipped bool, err error) {
	r := store.ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case ownerUID:
			o.uid = r.Uint32()
		case ownerGID:
			o.gid = r.Uint32()
		case ownerUser:
			o.user = r.String()
		case ownerGroup:
			o.group = r.String()
		default:
			r.Unknown()
		}
	}
	return o, r.Skipped(), r.Err()
}

// ownerTable numbers the owners of a page in the order they are first met.
type ownerTable struct {
	list  []owner
	index map[owner]int
	last  int // most neighbours have the same owner
}

func (t *ownerTable) number(o owner) int {
	if t.last < len(t.list) && t.list[t.last] == o {
		return t.last
	}
	n, ok := t.index[o]
	if !ok {
		if t.index == nil {
			t.index = make(map[owner]int)
		}
		n = len(t.list)
		t.list = append(t.list, o)
		t.index[o] = n
	}
	t.last = n
	return n
}

func (t *ownerTable) reset() {
	t.list = t.list[:0]
	t.last = 0
	clear(t.index)
}

func (t *ownerTable) encode() []byte {
	var list, one []byte
	for _, o := range t.list {
		one = appendOwner(one[:0], o)
		list = store.AppendBytes(list, one)
	}
	return list
}

// decodeOwners reads a page's table; each owner must stand in it once.
func decodeOwners(list []byte) (owners []owner, skipped bool, err error) {
	for len(list) > 0 {
		var rec []byte
		if rec, list, err = store.CutBytes(list); err != nil {
			return nil, false, err
		}
		o, s, err := decodeOwner(rec)
		if err != nil {
			return nil, false, err
		}
		if len(owners) == maxPage {
			return nil, false, malformed("more owners than entries")
		}
		skipped = skipped || s
		owners = append(owners, o)
	}
	return owners, skipped, distinctOwners(owners)
}

func distinctOwners(owners []owner) error {
	if len(owners) < 2 {
		return nil
	}
	seen := make(map[owner]struct{}, len(owners))
	for _, o := range owners {
		seen[o] = struct{}{}
	}
	if len(seen) != len(owners) {
		return malformed("an owner stands twice in the table")
	}
	return nil
}
