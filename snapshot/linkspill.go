package snapshot

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
)

var errSpillClosed = errors.New("writer is closed")

// linkKey is what link records are sorted by.
type linkKey struct {
	fs    uint32
	inode uint64
}

func (k linkKey) compare(o linkKey) int {
	return key{fs: k.fs, inode: k.inode}.compare(key{fs: o.fs, inode: o.inode})
}

// spilled is a row of a run: a count of names (data is empty), or a record of n bytes.
type spilled struct {
	key  linkKey
	n    uint32
	data []byte
}

// Layout of the temporary file: rows of file system (4 bytes), inode (8), n (4), all little-endian; in runs of
// records n bytes follow.
const (
	spillRow     = 16
	spillBlock   = 256 // rows between two keys kept in memory
	maxCountRuns = 8
	spillBuffer  = 32 << 10
)

// spillRun is a sorted stretch of the temporary file.
type spillRun struct {
	offset, size int64
	data         bool      // rows of records
	rows         int       // of counts
	index        []linkKey // of counts: the key of each block's first row
	filter       keyFilter // of counts
}

// keyFilter is a Bloom filter with 10 bits a key: 1 % of the keys that are not there seem to be.
type keyFilter []uint64

const filterProbes = 7

func newKeyFilter(keys int) keyFilter { return make(keyFilter, keys*10/64+1) }

// probe calls fn with the word and bit of each probe, until fn returns false.
func (f keyFilter) probe(k linkKey, fn func(word int, bit uint64) bool) {
	// The finaliser of MurmurHash3; inodes of one file system are close together.
	h := k.inode ^ uint64(k.fs)<<40
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	step := h>>32 | 1
	for range filterProbes {
		h += step
		if n := h >> 16 % uint64(len(f)*64); !fn(int(n/64), 1<<(n%64)) {
			return
		}
	}
}

func (f keyFilter) add(k linkKey) {
	f.probe(k, func(word int, bit uint64) bool { f[word] |= bit; return true })
}

func (f keyFilter) mayHold(k linkKey) bool {
	all := true
	f.probe(k, func(word int, bit uint64) bool { all = f[word]&bit != 0; return all })
	return all
}

// spillFile is a temporary file without a name, made when first needed.
type spillFile struct {
	dir  string
	file *os.File
	end  int64
}

func (s *spillFile) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

func (s *spillFile) open() error {
	if s.file != nil {
		return nil
	}
	f, err := ScratchFile(s.dir)
	if err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	s.file = f
	return nil
}

// write merges sorted sources into a new run: of counts of at most so many keys, or of records if that is 0.
func (s *spillFile) write(from []spillReader, fold func(older, newer spilled) spilled, counts int) (spillRun, error) {
	run := spillRun{offset: s.end, data: counts == 0}
	if counts > 0 {
		run.filter = newKeyFilter(counts)
	}
	if err := s.open(); err != nil {
		return run, err
	}
	m, err := newMerger(from, fold)
	if err != nil {
		return run, err
	}
	out := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.end), spillBuffer)
	var row [spillRow]byte
	for {
		r, ok, err := m.next()
		if err != nil {
			return run, err
		}
		if !ok {
			break
		}
		if !run.data {
			run.note(r.key)
		}
		binary.LittleEndian.PutUint32(row[:], r.key.fs)
		binary.LittleEndian.PutUint64(row[4:], r.key.inode)
		binary.LittleEndian.PutUint32(row[12:], r.n)
		out.Write(row[:])
		out.Write(r.data)
		run.size += spillRow + int64(len(r.data))
	}
	if err := out.Flush(); err != nil {
		return run, fmt.Errorf("temporary file: %w", err)
	}
	s.end += run.size
	return run, nil
}

// note makes a row of counts findable.
func (r *spillRun) note(k linkKey) {
	if r.rows%spillBlock == 0 {
		r.index = append(r.index, k)
	}
	r.rows++
	r.filter.add(k)
}

// contains looks for a key with names in runs of counts, in the newest first: a small read for each that may have it.
func (s *spillFile) contains(runs []spillRun, k linkKey) (bool, error) {
	var block [spillBlock * spillRow]byte
	for _, run := range slices.Backward(runs) {
		if !run.filter.mayHold(k) {
			continue
		}
		i := sort.Search(len(run.index), func(i int) bool { return run.index[i].compare(k) > 0 }) - 1
		if i < 0 {
			continue
		}
		at := int64(i) * int64(len(block))
		rows := block[:min(int64(len(block)), run.size-at)]
		if _, err := s.file.ReadAt(rows, run.offset+at); err != nil {
			return false, fmt.Errorf("temporary file: %w", err)
		}
		n := sort.Search(len(rows)/spillRow, func(i int) bool { return rowKey(rows[i*spillRow:]).compare(k) >= 0 })
		if n < len(rows)/spillRow && rowKey(rows[n*spillRow:]) == k {
			return binary.LittleEndian.Uint32(rows[n*spillRow+12:])&^countsAnew > 0, nil
		}
	}
	return false, nil
}

func rowKey(row []byte) linkKey {
	return linkKey{binary.LittleEndian.Uint32(row), binary.LittleEndian.Uint64(row[4:])}
}

// readers returns a reader for each run, the oldest first.
func (s *spillFile) readers(runs []spillRun) []spillReader {
	list := make([]spillReader, len(runs), len(runs)+1)
	for i, run := range runs {
		in := io.NewSectionReader(s.file, run.offset, run.size)
		list[i] = &runReader{in: bufio.NewReaderSize(in, spillBuffer), data: run.data}
	}
	return list
}

// spillReader gives rows in order; io.EOF after the last. A row's data is valid until the next call.
type spillReader interface {
	read() (spilled, error)
}

type runReader struct {
	in   *bufio.Reader
	data bool
	buf  []byte
}

func (r *runReader) read() (spilled, error) {
	var row [spillRow]byte
	if _, err := io.ReadFull(r.in, row[:]); err != nil {
		if err == io.EOF {
			return spilled{}, io.EOF
		}
		return spilled{}, fmt.Errorf("temporary file: %w", err)
	}
	s := spilled{key: rowKey(row[:]), n: binary.LittleEndian.Uint32(row[12:])}
	if !r.data {
		return s, nil
	}
	r.buf = slices.Grow(r.buf[:0], int(s.n))[:s.n]
	if _, err := io.ReadFull(r.in, r.buf); err != nil {
		return spilled{}, fmt.Errorf("temporary file: %w", err)
	}
	s.data = r.buf
	return s, nil
}

// listReader reads rows in memory.
type listReader struct{ list []spilled }

func (r *listReader) read() (spilled, error) {
	if len(r.list) == 0 {
		return spilled{}, io.EOF
	}
	s := r.list[0]
	r.list = r.list[1:]
	return s, nil
}

// recordBuffer holds records until they are spilled.
type recordBuffer struct {
	text []byte
	rows []bufferedRow
}

type bufferedRow struct {
	key        linkKey
	start, end int
}

func (b *recordBuffer) add(k linkKey, e *Entry) {
	start := len(b.text)
	b.text = appendEntry(b.text, e, inSpill, 0, nil)
	b.rows = append(b.rows, bufferedRow{k, start, len(b.text)})
}

func (b *recordBuffer) size() int { return len(b.text) + 32*len(b.rows) }

func (b *recordBuffer) reset() { b.text, b.rows = b.text[:0], b.rows[:0] }

// sorted returns the records in order; of several with one key they stand as they came.
func (b *recordBuffer) sorted() spillReader {
	rows := slices.Clone(b.rows)
	slices.SortStableFunc(rows, func(x, y bufferedRow) int { return x.key.compare(y.key) })
	return &bufferReader{text: b.text, rows: rows}
}

type bufferReader struct {
	text []byte
	rows []bufferedRow
}

func (r *bufferReader) read() (spilled, error) {
	if len(r.rows) == 0 {
		return spilled{}, io.EOF
	}
	row := r.rows[0]
	r.rows = r.rows[1:]
	return spilled{key: row.key, n: uint32(row.end - row.start), data: r.text[row.start:row.end]}, nil
}

// merger merges sorted readers, folding rows of the same key, the older reader's first.
type merger struct {
	fold  func(older, newer spilled) spilled
	heads []head
	buf   []byte
}

type head struct {
	row spilled
	age int
	in  spillReader
}

func newMerger(in []spillReader, fold func(older, newer spilled) spilled) (*merger, error) {
	m := &merger{fold: fold}
	for i, r := range in {
		row, err := r.read()
		if err == io.EOF {
			continue
		}
		if err != nil {
			return nil, err
		}
		m.heads = append(m.heads, head{row, i, r})
	}
	heap.Init(m)
	return m, nil
}

// next returns the next key's row; its data is valid until the next call.
func (m *merger) next() (row spilled, ok bool, err error) {
	for len(m.heads) > 0 {
		h := &m.heads[0]
		if ok && h.row.key != row.key {
			break
		}
		if ok {
			row = m.fold(row, h.row)
		} else {
			row, ok = h.row, true
		}
		if row.data != nil {
			m.buf = append(m.buf[:0], row.data...)
			row.data = m.buf
		}
		if h.row, err = h.in.read(); err == nil {
			heap.Fix(m, 0)
		} else if err == io.EOF {
			heap.Pop(m)
		} else {
			return row, false, err
		}
	}
	return row, ok, nil
}

// Len, Less, Swap, Push and Pop are for container/heap.

// Len is the number of readers that are not at their end.
func (m *merger) Len() int { return len(m.heads) }

// Less orders readers by their next row, then by age.
func (m *merger) Less(i, j int) bool {
	if c := m.heads[i].row.key.compare(m.heads[j].row.key); c != 0 {
		return c < 0
	}
	return m.heads[i].age < m.heads[j].age
}

// Swap exchanges two readers.
func (m *merger) Swap(i, j int) { m.heads[i], m.heads[j] = m.heads[j], m.heads[i] }

// Push adds a reader.
func (m *merger) Push(x any) { m.heads = append(m.heads, x.(head)) }

// Pop removes the last reader.
func (m *merger) Pop() any {
	last := m.heads[len(m.heads)-1]
	m.heads = m.heads[:len(m.heads)-1]
	return last
}
