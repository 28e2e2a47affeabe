package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"snapfs/store"
)

// XattrKinds says which kinds of extended attributes there are: a mount that knows that nothing has an ACL can tell ls
// so once, instead of once a file.
type XattrKinds uint32

// Kinds of extended attributes. On disk; append only.
const (
	XattrACL   XattrKinds = 1 << 0 // system.posix_acl_access, system.posix_acl_default
	XattrLabel XattrKinds = 1 << 1 // security.selinux
	XattrOther XattrKinds = 1 << 2

	xattrAny = XattrACL | XattrLabel | XattrOther
)

// KindOfXattr returns the kind of an attribute's name.
func KindOfXattr(name string) XattrKinds {
	switch name {
	case "system.posix_acl_access", "system.posix_acl_default":
		return XattrACL
	case "security.selinux":
		return XattrLabel
	}
	return XattrOther
}

// Xattrs returns the kinds of extended attributes that entries of the snapshot may have.
func (s *Summary) Xattrs() XattrKinds {
	if s.HasXattrs && s.XattrKinds == 0 {
		return xattrAny // of a program that did not tell them apart
	}
	return s.XattrKinds
}

// inlineXattrs is the largest encoded set that stands in an entry. On disk in effect: see inlineItems.
const inlineXattrs = 1 << 10

// Fields of a stored attribute set. On disk; append only.
const xattrsList store.Tag = 1

// WriteXattrs fills e.Xattrs or, above 1 KiB, stores the set and fills e.XattrsID. Names are sorted.
func WriteXattrs(ctx context.Context, sink Sink, e *Entry, set []Xattr) error {
	e.Xattrs, e.XattrsID = nil, store.ID{}
	if len(set) == 0 {
		return nil
	}
	set = slices.Clone(set)
	slices.SortFunc(set, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	if err := checkXattrs(set); err != nil {
		return err
	}
	list := appendXattrs(nil, set)
	if len(list) <= inlineXattrs {
		e.Xattrs = set
		return nil
	}
	f := store.AppendFields(nil)
	f.Bytes(xattrsList, list)
	id, err := sink.Put(ctx, store.KindXattrs, f.Encoded())
	if err != nil {
		return fmt.Errorf("storing extended attributes: %w", err)
	}
	e.XattrsID = id
	return nil
}

// Xattrs returns an entry's extended attributes, wherever they are stored.
func (t *Tree) Xattrs(ctx context.Context, e *Entry) ([]Xattr, error) {
	if e.XattrsID.IsZero() {
		return e.Xattrs, nil
	}
	data, err := t.src.Get(ctx, store.KindXattrs, e.XattrsID)
	if err != nil {
		return nil, &NodeError{store.KindXattrs, e.XattrsID, err}
	}
	set, _, err := decodeXattrsBlob(data)
	if err != nil {
		return nil, &NodeError{store.KindXattrs, e.XattrsID, err}
	}
	return set, nil
}

// decodeXattrsBlob also reports whether it skipped unknown fields.
func decodeXattrsBlob(data []byte) (set []Xattr, skipped bool, err error) {
	r := store.ReadFields(data)
	for r.Next() {
		if r.Tag() != xattrsList {
			r.Unknown()
		} else if set, err = decodeXattrs(r.Bytes()); err != nil {
			return nil, false, err
		}
	}
	return set, r.Skipped(), r.Err()
}

// appendXattrs appends name and value of each attribute, both with their lengths.
func appendXattrs(buf []byte, set []Xattr) []byte {
	for _, x := range set {
		buf = store.AppendString(buf, x.Name)
		buf = store.AppendBytes(buf, x.Value)
	}
	return buf
}

func decodeXattrs(list []byte) ([]Xattr, error) {
	var set []Xattr
	list = bytes.Clone(list)
	for len(list) > 0 {
		name, rest, err := store.CutBytes(list)
		if err != nil {
			return nil, err
		}
		value, rest, err := store.CutBytes(rest)
		if err != nil {
			return nil, err
		}
		set, list = append(set, Xattr{string(name), value}), rest
	}
	if err := checkXattrs(set); err != nil {
		return nil, malformed("%v", err)
	}
	return set, nil
}

func xattrsLen(set []Xattr) int {
	var room [inlineXattrs]byte
	return len(appendXattrs(room[:0], set))
}

// checkXattrs demands names, in strict order, without NUL.
func checkXattrs(set []Xattr) error {
	for i, x := range set {
		if x.Name == "" || strings.IndexByte(x.Name, 0) >= 0 {
			return fmt.Errorf("%w: extended attribute named %q", ErrEntry, x.Name)
		}
		if i > 0 && set[i-1].Name >= x.Name {
			return fmt.Errorf("%w: extended attribute %q twice or out of order", ErrEntry, x.Name)
		}
	}
	return nil
}
