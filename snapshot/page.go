package snapshot

import (
	"math"
	"sort"
	"strings"
	"unsafe"

	"snapfs/store"
)

// pageKind says what a page is part of.
type pageKind uint8

// Kinds of pages. On disk; append only.
const (
	pageDirectory pageKind = 1
	pageContent   pageKind = 2
	pageLinks     pageKind = 3
)

// Fields of a page. On disk; append only.
const (
	pageFieldKind    store.Tag = 1
	pageFieldLevel   store.Tag = 2 // 0: a leaf
	pageFieldOwners  store.Tag = 3
	pageFieldRecords store.Tag = 4
)

// Fields of a record in a page above the leaves. On disk; append only.
const (
	branchName    store.Tag = 1 // first name below, directories
	branchFS      store.Tag = 2 // first key below, link trees
	branchInode   store.Tag = 3
	branchPage    store.Tag = 4
	branchEntries store.Tag = 5
	branchBytes   store.Tag = 6
	branchLinked  store.Tag = 7
	branchHoles   store.Tag = 8
)

// The cut rule. On disk: other values give other pages for the same names.
const (
	minPage  = 64  // records before a cut, except in the last page of a level
	maxPage  = 512 // records
	cutBits  = 7   // bits of the hash each level looks at
	maxLevel = 8   // of a page above the leaves; 64^5 > 2^31, so no honest tree reaches it
)

// maxEntries is how many names a snapshot may have: positions are 31 bits wide.
const maxEntries = 1<<31 - 1

// sums are over everything below a page: of a directory Totals; of a link tree Entries counts records and
// Bytes is size x names; of content Bytes are lengths and holes the part of it that is holes.
type sums struct {
	Totals
	holes uint64
}

func (s *sums) add(o sums) {
	s.Entries = addSaturated(s.Entries, o.Entries)
	s.Bytes = addSaturated(s.Bytes, o.Bytes)
	s.Linked = addSaturated(s.Linked, o.Linked)
	s.holes = addSaturated(s.holes, o.holes)
}

// addSaturated stops at the end of the range: three sparse files of 8 EiB must not wrap to nothing.
func addSaturated(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

func mulSaturated(a, b uint64) uint64 {
	if a != 0 && b > math.MaxUint64/a {
		return math.MaxUint64
	}
	return a * b
}

// entrySums is what a name adds to the pages above it.
func entrySums(e *Entry) sums {
	s := sums{Totals: Totals{Entries: 1}}
	switch {
	case e.Linked:
		s.Linked = 1
	case e.Type == TypeDir:
		s.add(sums{Totals: e.Totals})
	case e.Type == TypeFile:
		s.Bytes = uint64(e.Size)
	}
	return s
}

func recordSums(e *Entry) sums {
	s := sums{Totals: Totals{Entries: 1}}
	if e.Type == TypeFile {
		s.Bytes = mulSaturated(uint64(e.Size), uint64(e.Nlink))
	}
	return s
}

func itemSums(it Item) sums {
	s := sums{Totals: Totals{Bytes: uint64(it.Length)}}
	if it.ID.IsZero() {
		s.holes = s.Bytes
	}
	return s
}

// key is what records are sorted by: a name, or file system and inode. Of content it is the chunk ID, for cutting.
type key struct {
	name  string
	fs    uint32
	inode uint64
}

func (k key) compare(o key) int {
	if c := strings.Compare(k.name, o.name); c != 0 {
		return c
	}
	switch {
	case k.fs != o.fs:
		return sign(k.fs < o.fs)
	case k.inode != o.inode:
		return sign(k.inode < o.inode)
	}
	return 0
}

func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}

// branch is a record of a page above the leaves: the page below it.
type branch struct {
	first key
	id    store.ID
	sum   sums
}

func appendBranch(buf []byte, kind pageKind, b *branch) []byte {
	f := store.AppendFields(buf)
	if kind != pageContent {
		f.String(branchName, b.first.name)
		f.Uint(branchFS, uint64(b.first.fs))
		f.Uint(branchInode, b.first.inode)
	}
	f.ID(branchPage, b.id)
	f.Uint(branchEntries, b.sum.Entries)
	f.Uint(branchBytes, b.sum.Bytes)
	f.Uint(branchLinked, b.sum.Linked)
	f.Uint(branchHoles, b.sum.holes)
	return f.Encoded()
}

func decodeBranch(data []byte, t *text, b *branch) (skipped bool, err error) {
	r := store.ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case branchName:
			b.first.name = t.add(r.Bytes())
		case branchFS:
			b.first.fs = r.Uint32()
		case branchInode:
			b.first.inode = r.Uint()
		case branchPage:
			b.id = r.ID()
		case branchEntries:
			b.sum.Entries = r.Uint()
		case branchBytes:
			b.sum.Bytes = r.Uint()
		case branchLinked:
			b.sum.Linked = r.Uint()
		case branchHoles:
			b.sum.holes = r.Uint()
		default:
			r.Unknown()
		}
	}
	if err := r.Err(); err != nil {
		return false, err
	}
	if b.id.IsZero() {
		return false, malformed("branch without a page")
	}
	return r.Skipped(), nil
}

// page is a decoded page. One of entries, items and branches is set. Immutable.
type page struct {
	kind     pageKind
	level    int
	entries  []Entry // of a leaf of a directory or link tree
	items    []Item  // of a leaf of content
	branches []branch
	before   []uint64 // before each record: entries (directories), records (link trees), bytes (content)
	sum      sums
	size     int64 // memory, about
	skipped  bool  // there were unknown fields
}

// len is the number of records.
func (p *page) len() int { return len(p.before) }

// key is the key of a record; not for leaves of content.
func (p *page) key(i int) key {
	if p.level > 0 {
		return p.branches[i].first
	}
	e := &p.entries[i]
	if p.kind == pageLinks {
		return key{fs: e.FS, inode: e.Inode}
	}
	return key{name: e.Name}
}

// seek is the first record whose key is not less than k; in a page of branches the last one that begins at or
// before k, which alone can hold it.
func (p *page) seek(k key) int {
	if p.level == 0 {
		return sort.Search(p.len(), func(i int) bool { return p.key(i).compare(k) >= 0 })
	}
	return max(0, sort.Search(p.len(), func(i int) bool { return p.key(i).compare(k) > 0 })-1)
}

// covering is the last record with at most n before it.
func (p *page) covering(n uint64) int {
	return max(0, sort.Search(p.len(), func(i int) bool { return p.before[i] > n })-1)
}

// decodePage decodes and checks a page by itself. fs is the file system entries have when they do not say.
func decodePage(data []byte, kind pageKind, fs uint32) (*page, error) {
	p := &page{kind: kind}
	var owners, records []byte
	stored := pageKind(0)
	r := store.ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case pageFieldKind:
			stored = pageKind(min(r.Uint(), 255))
		case pageFieldLevel:
			p.level = int(min(r.Uint(), maxLevel+1))
		case pageFieldOwners:
			owners = r.Bytes()
		case pageFieldRecords:
			records = r.Bytes()
		default:
			r.Unknown()
		}
	}
	p.skipped = r.Skipped()
	switch {
	case r.Err() != nil:
		return nil, r.Err()
	case stored != kind:
		return nil, malformed("a page of kind %d where kind %d belongs", stored, kind)
	case p.level > maxLevel:
		return nil, malformed("page of level %d", p.level)
	case len(records) == 0:
		return nil, malformed("empty page")
	case owners != nil && (p.level > 0 || kind == pageContent):
		return nil, malformed("owners where none belong")
	}
	if err := p.decodeRecords(records, owners, fs); err != nil {
		return nil, err
	}
	return p, p.checkOrder()
}

func (p *page) decodeRecords(records, owners []byte, fs uint32) error {
	switch {
	case p.level > 0:
		return p.decodeBranches(records)
	case p.kind == pageContent:
		return p.decodeItems(records)
	default:
		return p.decodeEntries(records, owners, fs)
	}
}

// measure counts the records of a page and the bytes of their names.
func measure(records []byte) (n, names int, err error) {
	for len(records) > 0 {
		var rec []byte
		if rec, records, err = store.CutBytes(records); err != nil {
			return 0, 0, err
		}
		if n++; n > maxPage {
			return 0, 0, malformed("more than %d records in a page", maxPage)
		}
		if len(rec) > 0 && rec[0] == byte(entryName)<<2|1 {
			if name, _, err := store.CutBytes(rec[1:]); err == nil {
				names += len(name)
			}
		}
	}
	return n, names, nil
}

func (p *page) decodeBranches(records []byte) error {
	n, names, err := measure(records)
	if err != nil {
		return err
	}
	var t text
	t.grow(names)
	p.branches = make([]branch, n)
	p.before = make([]uint64, n)
	for i := range p.branches {
		rec, rest, err := store.CutBytes(records)
		if err != nil {
			return err
		}
		records = rest
		b := &p.branches[i]
		skipped, err := decodeBranch(rec, &t, b)
		if err != nil {
			return err
		}
		p.skipped = p.skipped || skipped
		if err := p.checkBranch(b); err != nil {
			return err
		}
		p.count(i, b.sum)
	}
	p.size = int64(n)*int64(unsafe.Sizeof(branch{})+8) + int64(names) + pageOverhead
	return p.checkSum()
}

// checkBranch refuses keys and sums that do not belong to the kind of page.
func (p *page) checkBranch(b *branch) error {
	ok := false
	k, s := b.first, b.sum
	switch p.kind {
	case pageDirectory:
		ok = checkName(k.name) == nil && k.fs == 0 && k.inode == 0 && s.Entries > 0 && s.Linked <= s.Entries && s.holes == 0
	case pageLinks:
		ok = k.name == "" && s.Entries > 0 && s.Linked == 0 && s.holes == 0
	case pageContent:
		ok = k == key{} && s.Entries == 0 && s.Linked == 0 && s.Bytes > 0 && s.holes <= s.Bytes
	}
	if !ok || s.Entries > maxEntries {
		return malformed("branch with impossible sums")
	}
	return nil
}

const pageOverhead = 256

func (p *page) decodeItems(records []byte) (err error) {
	if p.items, err = cutItems(nil, records, maxPage); err != nil {
		return err
	}
	p.before = make([]uint64, len(p.items))
	for i, it := range p.items {
		p.count(i, itemSums(it))
	}
	p.size = int64(cap(p.items))*int64(unsafe.Sizeof(Item{})) + int64(len(p.before))*8 + pageOverhead
	return p.checkSum()
}

func (p *page) decodeEntries(records, owners []byte, fs uint32) error {
	n, names, err := measure(records)
	if err != nil {
		return err
	}
	d := entryDecoder{at: inDirectory, fs: fs}
	if p.kind == pageLinks {
		d.at, d.fs = inLinkTree, 0
	}
	if d.owners, d.skipped, err = decodeOwners(owners); err != nil {
		return err
	}
	d.text.grow(names)
	d.items = make([]Item, 0, n)
	p.entries = make([]Entry, n)
	p.before = make([]uint64, n)
	for i := range p.entries {
		rec, rest, err := store.CutBytes(records)
		if err != nil {
			return err
		}
		records = rest
		e := &p.entries[i]
		if err := d.decode(rec, e); err != nil {
			return err
		}
		if err := p.addEntry(i, e); err != nil {
			return err
		}
	}
	if d.used != len(d.owners) {
		return malformed("owners that no entry has")
	}
	p.skipped = p.skipped || d.skipped
	p.size = int64(n)*int64(unsafe.Sizeof(Entry{})+unsafe.Sizeof(Item{})+8) + int64(names) + pageOverhead
	return p.checkSum()
}

func (p *page) addEntry(i int, e *Entry) error {
	if p.kind == pageLinks {
		if e.Linked || e.Nlink == 0 || e.Type == TypeDir {
			return malformed("inode %d does not belong into a link tree", e.Inode)
		}
		p.count(i, recordSums(e))
		return nil
	}
	if err := checkName(e.Name); err != nil {
		return malformed("%v", err)
	}
	p.count(i, entrySums(e))
	return nil
}

// count adds record i to the sums.
func (p *page) count(i int, s sums) {
	p.before[i] = p.sum.Entries
	if p.kind == pageContent {
		p.before[i] = p.sum.Bytes
	}
	p.sum.add(s)
}

// checkSum refuses sums beyond the range of positions and offsets.
func (p *page) checkSum() error {
	if p.sum.Entries > maxEntries || p.kind == pageContent && p.sum.Bytes > math.MaxInt64 {
		return malformed("sums out of range")
	}
	return nil
}

func (p *page) checkOrder() error {
	if p.kind == pageContent {
		return nil
	}
	for i := 1; i < p.len(); i++ {
		if p.key(i-1).compare(p.key(i)) >= 0 {
			return malformed("records out of order")
		}
	}
	return nil
}
