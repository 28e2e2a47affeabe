package archive

import (
	"bufio"
	"bytes"
	"container/heap"
	"errors"
	"io"
	"os"
	"sort"
)

// sorter sorts records of one length as bytes, equal ones once, in bounded memory: what outgrows the budget is written in sorted runs to
// a temporary file without a name. Not safe for concurrent use.
type sorter struct {
	width  int
	budget int
	dir    string

	buf  []byte
	file *os.File
	runs []run
	end  int64
}

// run is a sorted part of the file.
type run struct{ from, length int64 }

// sorterBudget is how many bytes of records a sorter keeps in memory.
const sorterBudget = 16 << 20

func newSorter(width int, dir string) *sorter {
	return &sorter{width: width, budget: sorterBudget, dir: dir}
}

// add takes a copy of a record.
func (s *sorter) add(record []byte) error {
	if len(record) != s.width {
		panic("archive: record of another length")
	}
	s.buf = append(s.buf, record...)
	if len(s.buf) < s.budget {
		return nil
	}
	return s.spill()
}

// Len, Less and Swap implement sort.Interface over the records in memory.
func (s *sorter) Len() int { return len(s.buf) / s.width }

// Less implements sort.Interface.
func (s *sorter) Less(i, j int) bool { return bytes.Compare(s.at(i), s.at(j)) < 0 }

// Swap implements sort.Interface.
func (s *sorter) Swap(i, j int) {
	var spare [64]byte
	a, b := s.at(i), s.at(j)
	copy(spare[:], a)
	copy(a, b)
	copy(b, spare[:])
}

func (s *sorter) at(i int) []byte { return s.buf[i*s.width : (i+1)*s.width] }

// settle sorts what is in memory and drops what is there twice.
func (s *sorter) settle() {
	sort.Sort(s)
	n := 0
	for i := range s.Len() {
		if n > 0 && bytes.Equal(s.at(n-1), s.at(i)) {
			continue
		}
		copy(s.at(n), s.at(i))
		n++
	}
	s.buf = s.buf[:n*s.width]
}

func (s *sorter) spill() error {
	s.settle()
	if len(s.buf) < s.budget/2 {
		return nil // most of it was there twice
	}
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "snapfs-archive-*")
		if err != nil {
			return err
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	if _, err := s.file.WriteAt(s.buf, s.end); err != nil {
		return err
	}
	s.runs = append(s.runs, run{s.end, int64(len(s.buf))})
	s.end += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// sorted returns the records in order. The sorter takes none any more; close it when the records have been read.
func (s *sorter) sorted() *sortedRecords {
	s.settle()
	m := &sortedRecords{width: s.width}
	for _, r := range s.runs {
		m.sources = append(m.sources, &source{r: bufio.NewReaderSize(io.NewSectionReader(s.file, r.from, r.length), 32<<10)})
	}
	m.sources = append(m.sources, &source{r: bytes.NewReader(s.buf)})
	return m
}

func (s *sorter) close() error {
	s.buf = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// sortedRecords merges runs.
type sortedRecords struct {
	width   int
	sources mergeHeap
	begun   bool
	last    []byte
	out     []byte
}

// source is a run that is being read.
type source struct {
	r    io.Reader
	head []byte
}

// mergeHeap has the run with the smallest record first.
type mergeHeap []*source

// Len implements heap.Interface.
func (h mergeHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h mergeHeap) Less(i, j int) bool { return bytes.Compare(h[i].head, h[j].head) < 0 }

// Swap implements heap.Interface.
func (h mergeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *mergeHeap) Push(x any) { *h = append(*h, x.(*source)) }

// Pop implements heap.Interface.
func (h *mergeHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// fill reads the next record of a run; false at its end.
func (s *source) fill(width int) (bool, error) {
	if s.head == nil {
		s.head = make([]byte, width)
	}
	_, err := io.ReadFull(s.r, s.head)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

func (m *sortedRecords) begin() error {
	m.begun = true
	all := m.sources
	m.sources = nil
	for _, s := range all {
		ok, err := s.fill(m.width)
		if err != nil {
			return err
		}
		if ok {
			m.sources = append(m.sources, s)
		}
	}
	heap.Init(&m.sources)
	return nil
}

// next returns the next record, valid until the call after; nil at the end.
func (m *sortedRecords) next() ([]byte, error) {
	if !m.begun {
		if err := m.begin(); err != nil {
			return nil, err
		}
	}
	for len(m.sources) > 0 {
		first := m.sources[0]
		m.out = append(m.out[:0], first.head...)
		ok, err := first.fill(m.width)
		switch {
		case err != nil:
			return nil, err
		case ok:
			heap.Fix(&m.sources, 0)
		default:
			heap.Pop(&m.sources)
		}
		if m.last != nil && bytes.Equal(m.last, m.out) {
			continue
		}
		m.last = append(m.last[:0], m.out...)
		return m.out, nil
	}
	return nil, nil
}
