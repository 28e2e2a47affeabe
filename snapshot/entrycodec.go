package snapshot

import (
	"fmt"
	"math"
	"strings"

	"snapfs/store"
)

// Fields of an entry. On disk; append only.
const (
	entryName         store.Tag = 1
	entryType         store.Tag = 2
	entryBits         store.Tag = 3
	entryFS           store.Tag = 4 // index + 1, where it is not the directory's
	entryInode        store.Tag = 5
	entryMode         store.Tag = 6
	entryFlags        store.Tag = 7
	entryOwner        store.Tag = 8 // row of the page's table
	entryRdev         store.Tag = 9
	entrySize         store.Tag = 10
	entryMtime        store.Tag = 11
	entryMtimeNsec    store.Tag = 12
	entryCtime        store.Tag = 13
	entryCtimeNsec    store.Tag = 14
	entryBtime        store.Tag = 15
	entryBtimeNsec    store.Tag = 16
	entryTarget       store.Tag = 17
	entryXattrs       store.Tag = 18
	entryXattrsID     store.Tag = 19
	entryItems        store.Tag = 20
	entryList         store.Tag = 21
	entryDir          store.Tag = 22
	entryTotalEntries store.Tag = 23
	entryTotalBytes   store.Tag = 24
	entryTotalLinked  store.Tag = 25
	entryNlink        store.Tag = 26
	entryOwnerInline  store.Tag = 27 // an owner, where there is no table
	entryHoles        store.Tag = 28 // with entryList

	entryLastTag = entryHoles
)

// Bits of entryBits. On disk; append only.
const (
	bitLinked = 1
	bitFresh  = 2
)

// place is where an entry stands: it decides which fields it may have.
type place uint8

const (
	inDirectory place = iota // with a name; owners in a table
	inLinkTree               // without a name, with Nlink; owners in a table
	inSpill                  // a link-tree record on its way; owner inline
	inManifest               // with or without a name; owner inline
)

// allowed holds a bit for every field an entry of a type may have.
type allowed uint32

func tagBit(t store.Tag) allowed { return 1 << t }

const (
	allowLinked  = allowed(1<<entryName | 1<<entryType | 1<<entryBits | 1<<entryFS | 1<<entryInode)
	allowCommon  = allowLinked | 1<<entryMode | 1<<entryFlags | allowTimes | 1<<entryXattrs | 1<<entryXattrsID
	allowTimes   = allowed(1<<entryMtime | 1<<entryMtimeNsec | 1<<entryCtime | 1<<entryCtimeNsec | 1<<entryBtime | 1<<entryBtimeNsec)
	allowFile    = allowCommon | 1<<entrySize | 1<<entryItems | 1<<entryList | 1<<entryHoles
	allowDir     = allowCommon | 1<<entryDir | 1<<entryTotalEntries | 1<<entryTotalBytes | 1<<entryTotalLinked
	allowSymlink = allowCommon | 1<<entrySize | 1<<entryTarget
	allowDevice  = allowCommon | 1<<entryRdev
)

func allowedFields(t Type, linked bool, at place) allowed {
	if linked {
		return allowLinked
	}
	var a allowed
	switch t {
	case TypeFile:
		a = allowFile
	case TypeDir:
		a = allowDir
	case TypeSymlink:
		a = allowSymlink
	case TypeChar, TypeBlock:
		a = allowDevice
	default:
		a = allowCommon
	}
	switch at {
	case inDirectory:
		a |= tagBit(entryOwner)
	case inLinkTree:
		a = a&^tagBit(entryName) | tagBit(entryOwner) | tagBit(entryNlink)
	case inSpill:
		a = a&^tagBit(entryName) | tagBit(entryOwnerInline)
	case inManifest:
		a |= tagBit(entryOwnerInline)
	}
	return a
}

// checkName refuses what cannot be a name in a directory.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.IndexByte(name, 0) >= 0 || strings.IndexByte(name, '/') >= 0 {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}

// check says whether an entry can be represented.
func (e *Entry) check() error {
	switch {
	case e.Type < TypeFile || e.Type > TypeBlock:
		return fmt.Errorf("%w: %q has type %d", ErrEntry, e.Name, e.Type)
	case e.FS == math.MaxUint32:
		return fmt.Errorf("%w: %q has file system %d", ErrEntry, e.Name, e.FS)
	case e.Linked:
		if e.Type == TypeDir {
			return fmt.Errorf("%w: directory %q is linked", ErrEntry, e.Name)
		}
		return nil
	case e.Mode > 0o7777:
		return fmt.Errorf("%w: %q has mode %o", ErrEntry, e.Name, e.Mode)
	case max(e.Mtime.Nsec, e.Ctime.Nsec, e.Btime.Nsec) > 999_999_999:
		return fmt.Errorf("%w: %q has a time with too many nanoseconds", ErrEntry, e.Name)
	case e.Size < 0:
		return fmt.Errorf("%w: %q has size %d", ErrEntry, e.Name, e.Size)
	case len(e.Xattrs) > 0 && !e.XattrsID.IsZero():
		return fmt.Errorf("%w: %q has two sets of extended attributes", ErrEntry, e.Name)
	}
	if len(e.Xattrs) > 0 {
		if err := checkXattrs(e.Xattrs); err != nil {
			return fmt.Errorf("%q: %w", e.Name, err)
		}
		if xattrsLen(e.Xattrs) > inlineXattrs {
			return fmt.Errorf("%w: %q has too many extended attributes to hold", ErrEntry, e.Name)
		}
	}
	switch e.Type {
	case TypeFile:
		return e.checkContent()
	case TypeDir:
		if e.Dir.IsZero() != (e.Totals.Entries == 0) || e.Totals.Entries > maxEntries || e.Totals.Linked > e.Totals.Entries {
			return fmt.Errorf("%w: directory %q has impossible totals", ErrEntry, e.Name)
		}
	case TypeSymlink:
		if strings.IndexByte(e.Target, 0) >= 0 {
			return fmt.Errorf("%w: symlink %q has a target with NUL", ErrEntry, e.Name)
		}
	}
	return nil
}

func (e *Entry) checkContent() error {
	n := len(e.Content.Items)
	if n > inlineItems || n > 0 && !e.Content.List.IsZero() {
		return fmt.Errorf("%w: %q has %d items, too many or beside a list", ErrEntry, e.Name, n)
	}
	if h := e.Content.Holes; h < 0 || h > e.Size || h > 0 && e.Content.List.IsZero() {
		return fmt.Errorf("%w: %q has %d bytes of holes beside its items", ErrEntry, e.Name, h)
	}
	var total int64
	for i, it := range e.Content.Items {
		if it.Length <= 0 || it.Length > math.MaxInt64-total || i > 0 && it.ID.IsZero() && e.Content.Items[i-1].ID.IsZero() {
			return fmt.Errorf("%w: %q has impossible content", ErrEntry, e.Name)
		}
		total += it.Length
	}
	return nil
}

// appendEntry encodes e, which passed check. fs is the directory's file system; owners is nil where owners
// stand in the entry. Fields that do not belong to the type are left out.
func appendEntry(buf []byte, e *Entry, at place, fs uint32, owners *ownerTable) []byte {
	f := store.AppendFields(buf)
	if at == inDirectory || at == inManifest {
		f.String(entryName, e.Name)
	}
	f.Uint(entryType, uint64(e.Type))
	if e.Linked {
		f.Uint(entryBits, bitLinked)
	} else if e.Fresh {
		f.Uint(entryBits, bitFresh)
	}
	if e.FS != fs {
		f.Uint(entryFS, uint64(e.FS)+1)
	}
	f.Uint(entryInode, e.Inode)
	if e.Linked {
		return f.Encoded()
	}
	f.Uint(entryMode, uint64(e.Mode))
	f.Uint(entryFlags, uint64(e.Flags))
	if owners != nil {
		f.Uint(entryOwner, uint64(owners.number(ownerOf(e))))
	}
	appendKind(&f, e)
	if at == inLinkTree {
		f.Uint(entryNlink, uint64(e.Nlink))
	}
	if owners == nil {
		f.Bytes(entryOwnerInline, appendOwner(nil, ownerOf(e)))
	}
	if e.Type == TypeFile {
		f.Uint(entryHoles, uint64(e.Content.Holes))
	}
	return f.Encoded()
}

// appendKind adds fields 9 to 25.
func appendKind(f *store.Fields, e *Entry) {
	if e.Type == TypeChar || e.Type == TypeBlock {
		f.Uint(entryRdev, e.Rdev)
	}
	if e.Type == TypeFile || e.Type == TypeSymlink {
		f.Uint(entrySize, uint64(e.Size))
	}
	f.Int(entryMtime, e.Mtime.Sec)
	f.Uint(entryMtimeNsec, uint64(e.Mtime.Nsec))
	f.Int(entryCtime, e.Ctime.Sec)
	f.Uint(entryCtimeNsec, uint64(e.Ctime.Nsec))
	f.Int(entryBtime, e.Btime.Sec)
	f.Uint(entryBtimeNsec, uint64(e.Btime.Nsec))
	if e.Type == TypeSymlink {
		f.String(entryTarget, e.Target)
	}
	if len(e.Xattrs) > 0 {
		f.Bytes(entryXattrs, appendXattrs(nil, e.Xattrs))
	}
	f.ID(entryXattrsID, e.XattrsID)
	switch e.Type {
	case TypeFile:
		if n := len(e.Content.Items); n > 0 {
			var room [inlineItems * 48]byte
			list := room[:0]
			for _, it := range e.Content.Items {
				list = appendItem(list, it)
			}
			f.Bytes(entryItems, list)
		}
		f.ID(entryList, e.Content.List)
	case TypeDir:
		f.ID(entryDir, e.Dir)
		f.Uint(entryTotalEntries, e.Totals.Entries)
		f.Uint(entryTotalBytes, e.Totals.Bytes)
		f.Uint(entryTotalLinked, e.Totals.Linked)
	}
}

// entryDecoder decodes the entries of one page into few allocations.
type entryDecoder struct {
	at     place
	fs     uint32
	owners []owner
	used   int // owners met so far

	text    text
	items   []Item
	skipped bool
}

// decode fills e, which is zero.
func (d *entryDecoder) decode(data []byte, e *Entry) error {
	e.FS = d.fs
	var seen allowed
	row := 0
	r := store.ReadFields(data)
	for r.Next() {
		tag := r.Tag()
		if tag <= entryLastTag {
			seen |= tagBit(tag)
		}
		switch tag {
		case entryName:
			e.Name = d.text.add(r.Bytes())
		case entryType:
			e.Type = Type(min(r.Uint(), 255))
		case entryBits:
			d.bits(&r, e)
		case entryFS:
			e.FS = r.Uint32() - 1
			if e.FS == d.fs {
				r.Refuse("file system of the directory")
			}
		case entryInode:
			e.Inode = r.Uint()
		case entryMode:
			e.Mode = r.Uint32()
		case entryFlags:
			e.Flags = r.Uint32()
		case entryOwner:
			row = int(min(r.Uint(), maxPage))
		case entryRdev:
			e.Rdev = r.Uint()
		case entrySize:
			e.Size = int64(r.Uint())
		case entryMtime:
			e.Mtime.Sec = r.Int()
		case entryMtimeNsec:
			e.Mtime.Nsec = r.Uint32()
		case entryCtime:
			e.Ctime.Sec = r.Int()
		case entryCtimeNsec:
			e.Ctime.Nsec = r.Uint32()
		case entryBtime:
			e.Btime.Sec = r.Int()
		case entryBtimeNsec:
			e.Btime.Nsec = r.Uint32()
		case entryDir:
			e.Dir = r.ID()
		case entryTotalEntries:
			e.Totals.Entries = r.Uint()
		case entryTotalBytes:
			e.Totals.Bytes = r.Uint()
		case entryTotalLinked:
			e.Totals.Linked = r.Uint()
		case entryNlink:
			e.Nlink = r.Uint32()
		default:
			if err := d.rare(&r, e); err != nil {
				return err
			}
		}
	}
	d.skipped = d.skipped || r.Skipped()
	if err := r.Err(); err != nil {
		return err
	}
	return d.finish(e, seen, row)
}

func (d *entryDecoder) bits(r *store.FieldReader, e *Entry) {
	switch r.Uint() {
	case bitLinked:
		e.Linked = true
	case bitFresh:
		e.Fresh = true
	default:
		r.Refuse("unknown bits")
	}
}

// rare takes the fields with parts of their own.
func (d *entryDecoder) rare(r *store.FieldReader, e *Entry) (err error) {
	switch r.Tag() {
	case entryTarget:
		e.Target = d.text.add(r.Bytes())
	case entryXattrs:
		e.Xattrs, err = decodeXattrs(r.Bytes())
	case entryXattrsID:
		e.XattrsID = r.ID()
	case entryItems:
		e.Content.Items, err = d.content(r.Bytes())
	case entryList:
		e.Content.List = r.ID()
	case entryHoles:
		e.Content.Holes = int64(r.Uint())
	case entryOwnerInline:
		o, skipped, err := decodeOwner(r.Bytes())
		o.give(e)
		d.skipped = d.skipped || skipped
		return err
	default:
		r.Unknown()
	}
	return err
}

func (d *entryDecoder) content(data []byte) ([]Item, error) {
	if cap(d.items)-len(d.items) < inlineItems {
		d.items = make([]Item, 0, 64)
	}
	start := len(d.items)
	items, err := cutItems(d.items, data, inlineItems)
	if err != nil {
		return nil, err
	}
	d.items = items
	return items[start:len(items):len(items)], nil
}

// finish looks at the entry as a whole.
func (d *entryDecoder) finish(e *Entry, seen allowed, row int) error {
	if extra := seen &^ allowedFields(e.Type, e.Linked, d.at); extra != 0 {
		return malformed("entry %q of type %d has fields it must not have (%#x)", e.Name, e.Type, uint32(extra))
	}
	if !e.Linked && (d.at == inDirectory || d.at == inLinkTree) {
		// Rows are used in order, so that the same entries have the same table.
		if row > d.used || row >= len(d.owners) {
			return malformed("entry %q has owner %d of %d", e.Name, row, len(d.owners))
		}
		d.used = max(d.used, row+1)
		d.owners[row].give(e)
	} else if row != 0 {
		return malformed("entry %q has an owner without a table", e.Name)
	}
	if err := e.check(); err != nil {
		return malformed("%v", err)
	}
	return nil
}

// text keeps the names and targets of a page in few strings.
type text struct{ b *strings.Builder }

const textBlock = 4 << 10

func (t *text) grow(n int) {
	t.b = new(strings.Builder)
	t.b.Grow(n)
}

func (t *text) add(p []byte) string {
	if t.b == nil || t.b.Cap()-t.b.Len() < len(p) {
		t.grow(max(len(p), textBlock))
	}
	at := t.b.Len()
	t.b.Write(p)
	return t.b.String()[at:]
}
