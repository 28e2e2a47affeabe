package snapshot

import (
	"bufio"
	"bytes"
	"container/heap"
	"errors"
	"io"
	"os"
	"sort"
)

// Sorter sorts records of one length, at most 64 bytes, equal ones once, in bounded memory: what outgrows 16 MiB is written in sorted runs to
// a temporary file without a name. Not safe for concurrent use.
type Sorter struct {
	width  int
	budget int
	dir    string

	buf  []byte
	file *os.File
	runs []sortedRun
	end  int64
}

// sortedRun is a sorted part of the file.
type sortedRun struct{ from, length int64 }

// sorterBudget is how many bytes of records a sorter keeps in memory.
const sorterBudget = 16 << 20

// NewSorter returns a Sorter of records of width bytes; dir is for the temporary file, "" the system's directory for such.
func NewSorter(width int, dir string) *Sorter {
	return &Sorter{width: width, budget: sorterBudget, dir: dir}
}

// Add takes a copy of a record.
func (s *Sorter) Add(record []byte) error {
	if len(record) != s.width {
		panic("snapshot: record of another length")
	}
	s.buf = append(s.buf, record...)
	if len(s.buf) < s.budget {
		return nil
	}
	return s.spill()
}

// Len, Less and Swap implement sort.Interface over the records in memory.
func (s *Sorter) Len() int { return len(s.buf) / s.width }

// Less implements sort.Interface.
func (s *Sorter) Less(i, j int) bool { return bytes.Compare(s.at(i), s.at(j)) < 0 }

// Swap implements sort.Interface.
func (s *Sorter) Swap(i, j int) {
	var spare [64]byte
	a, b := s.at(i), s.at(j)
	copy(spare[:], a)
	copy(a, b)
	copy(b, spare[:])
}

func (s *Sorter) at(i int) []byte { return s.buf[i*s.width : (i+1)*s.width] }

// settle sorts what is in memory and drops what is there twice.
func (s *Sorter) settle() {
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

// Spilled reports whether records are in the temporary file.
func (s *Sorter) Spilled() bool { return s.file != nil }

func (s *Sorter) spill() error {
	s.settle()
	if len(s.buf) < s.budget/2 {
		return nil // most of it was there twice
	}
	if s.file == nil {
		f, err := ScratchFile(s.dir)
		if err != nil {
			return err
		}
		s.file = f
	}
	if _, err := s.file.WriteAt(s.buf, s.end); err != nil {
		return err
	}
	s.runs = append(s.runs, sortedRun{s.end, int64(len(s.buf))})
	s.end += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// Sorted returns the records in order. The Sorter takes none any more; close it when the records have been read.
func (s *Sorter) Sorted() *SortedRecords {
	s.settle()
	m := &SortedRecords{width: s.width}
	for _, r := range s.runs {
		m.sources = append(m.sources, &sortedSource{r: bufio.NewReaderSize(io.NewSectionReader(s.file, r.from, r.length), 32<<10)})
	}
	m.sources = append(m.sources, &sortedSource{r: bytes.NewReader(s.buf)})
	return m
}

// Close gives memory and the temporary file back.
func (s *Sorter) Close() error {
	s.buf = nil
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// SortedRecords are the records of a Sorter in order. Not safe for concurrent use.
type SortedRecords struct {
	width   int
	sources runHeap
	begun   bool
	last    []byte
	out     []byte
}

// sortedSource is a run that is being read.
type sortedSource struct {
	r    io.Reader
	head []byte
}

// runHeap has the run with the smallest record first.
type runHeap []*sortedSource

// Len implements heap.Interface.
func (h runHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h runHeap) Less(i, j int) bool { return bytes.Compare(h[i].head, h[j].head) < 0 }

// Swap implements heap.Interface.
func (h runHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *runHeap) Push(x any) { *h = append(*h, x.(*sortedSource)) }

// Pop implements heap.Interface.
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// fill reads the next record of a run; false at its end.
func (s *sortedSource) fill(width int) (bool, error) {
	if s.head == nil {
		s.head = make([]byte, width)
	}
	_, err := io.ReadFull(s.r, s.head)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

func (m *SortedRecords) begin() error {
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

// Next returns the next record, valid until the call after; nil at the end.
func (m *SortedRecords) Next() ([]byte, error) {
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
