package restore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"os"
	"sort"
	"sync"

	"snapfs/snapshot"
	"snapfs/store"
)

// place is where a chunk is missing.
type place struct {
	file   uint32 // number in passage.files
	offset int64
	length uint32
}

// A record of openPlaces: the first bytes of the chunk's ID, then file (4 bytes), offset (8) and length (4), big-endian. IDs are keyed hashes: two
// that begin alike in 16 bytes there will not be.
const (
	placeKey    = 16
	placeRecord = placeKey + 16
	placePage   = 128 // records between two keys kept in memory
)

// openPlaces is the table of what waits for chunks, by chunk: first sorted, in memory or spilled, then asked. It takes 32 bytes a place, beyond 16 MiB
// in scratch (twice that while it is sorted), and in memory an eighth of a byte a place and of every 128th the key. Safe for concurrent use.
type openPlaces struct {
	dir string

	mu     sync.Mutex
	sorter *snapshot.Sorter

	n     int
	mem   []byte // all records, or:
	file  *os.File
	index []byte // the key of each page's first record

	came []uint64 // a bit for each record: that of a chunk's first one says that it came
	open int      // chunks that have not come
}

func newOpenPlaces(dir string) *openPlaces {
	return &openPlaces{dir: dir, sorter: snapshot.NewSorter(placeRecord, dir)}
}

// add notes a place. Before settle.
func (p *openPlaces) add(id store.ID, at place) error {
	b := append(make([]byte, 0, placeRecord), id[:placeKey]...)
	b = binary.BigEndian.AppendUint32(b, at.file)
	b = binary.BigEndian.AppendUint64(b, uint64(at.offset))
	b = binary.BigEndian.AppendUint32(b, at.length)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sorter.Add(b)
}

func parsePlace(b []byte) place {
	b = b[placeKey:]
	return place{binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint64(b[4:])), binary.BigEndian.Uint32(b[12:])}
}

// settle puts the places into order; from then on they are asked for.
func (p *openPlaces) settle() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sorted := p.sorter.Sorted()
	var out *bufio.Writer
	if !p.sorter.Spilled() {
		p.mem = make([]byte, 0, p.sorter.Len()*placeRecord)
	} else {
		if p.file, err = snapshot.ScratchFile(p.dir); err != nil {
			return err
		}
		out = bufio.NewWriterSize(p.file, 256<<10)
	}
	var last [placeKey]byte
	for {
		b, err := sorted.Next()
		if err != nil {
			return err
		}
		if b == nil {
			break
		}
		if p.n == 0 || !bytes.Equal(last[:], b[:placeKey]) {
			p.open++
			copy(last[:], b)
		}
		if p.n%placePage == 0 {
			p.index = append(p.index, b[:placeKey]...)
		}
		p.n++
		if out == nil {
			p.mem = append(p.mem, b...)
		} else if _, err := out.Write(b); err != nil {
			return err
		}
	}
	p.came = make([]uint64, p.n/64+1)
	if out != nil {
		err = out.Flush()
	}
	if closed := p.sorter.Close(); err == nil {
		err = closed
	}
	return err
}

// left is how many chunks are missing.
func (p *openPlaces) left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// wants reports whether a chunk is missing.
func (p *openPlaces) wants(id store.ID) bool {
	first, ok, err := p.find(id)
	if err != nil {
		return true // taking it will say what is wrong
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return ok && !p.hasCome(first)
}

// claim says where the places of a chunk begin; ok is false if it is not missing, or no more. It counts as come from now on.
func (p *openPlaces) claim(id store.ID) (first int, ok bool, err error) {
	if first, ok, err = p.find(id); !ok || err != nil {
		return 0, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hasCome(first) {
		return 0, false, nil
	}
	p.came[first/64] |= 1 << (first % 64)
	p.open--
	return first, true, nil
}

func (p *openPlaces) hasCome(first int) bool { return p.came[first/64]&(1<<(first%64)) != 0 }

// find is the number of a chunk's first record.
func (p *openPlaces) find(id store.ID) (first int, ok bool, err error) {
	key := id[:placeKey]
	pages := len(p.index) / placeKey
	page := sort.Search(pages, func(i int) bool { return bytes.Compare(p.index[i*placeKey:][:placeKey], key) >= 0 })
	for i := max(page-1, 0); i <= page && i < pages; i++ { // it begins in the page before, unless exactly with one
		b, err := p.page(i)
		if err != nil {
			return 0, false, err
		}
		n := sort.Search(len(b)/placeRecord, func(i int) bool { return bytes.Compare(b[i*placeRecord:][:placeKey], key) >= 0 })
		if n < len(b)/placeRecord {
			return i*placePage + n, bytes.Equal(b[n*placeRecord:][:placeKey], key), nil
		}
	}
	return 0, false, nil
}

// page is a page of records.
func (p *openPlaces) page(i int) ([]byte, error) {
	from := i * placePage
	n := min(placePage, p.n-from) * placeRecord
	if p.file == nil {
		return p.mem[from*placeRecord:][:n], nil
	}
	b := make([]byte, n)
	_, err := p.file.ReadAt(b, int64(from)*placeRecord)
	return b, err
}

// each calls fn for the places of a chunk, the first of which has that number.
func (p *openPlaces) each(first int, id store.ID, fn func(place) error) error {
	for at := first; at < p.n; {
		b, err := p.page(at / placePage)
		if err != nil {
			return err
		}
		for b = b[at%placePage*placeRecord:]; len(b) > 0; b, at = b[placeRecord:], at+1 {
			if !bytes.Equal(b[:placeKey], id[:placeKey]) {
				return nil
			}
			if err := fn(parsePlace(b)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *openPlaces) close() {
	_ = p.sorter.Close() // it was only read
	if p.file != nil {
		p.file.Close()
	}
}
