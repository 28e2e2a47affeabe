package restore

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/bits"
	"os"
	"sync"

	"snapfs/snapshot"
)

// firsts remembers which name of each linked file was restored first: by the record's rank in the link tree the
// position of the name, whose path the snapshot knows. That is four bytes a record; many records go to a temporary file.
// Safe for concurrent use.
type firsts struct {
	records uint64
	dir     string

	mu   sync.Mutex
	mem  []uint32
	file *os.File
}

const (
	firstsInMemory = 1 << 20 // records
	noFirst        = 0       // the position of the root, which is never linked
	lostFirst      = ^uint32(0)
)

func newFirsts(records uint64, scratch string) *firsts {
	return &firsts{records: records, dir: scratch}
}

// claim makes position the first name of a record unless it has one.
func (f *firsts) claim(rank, position uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.get(rank); p != noFirst {
		return false
	}
	f.set(rank, position)
	return true
}

// of returns the first name's position; lostFirst if it could not be restored.
func (f *firsts) of(rank uint32) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.get(rank)
}

// replace makes another name the one to link to, or lostFirst none.
func (f *firsts) replace(rank, position uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(rank, position)
}

func (f *firsts) get(rank uint32) uint32 {
	if f.file != nil {
		var b [4]byte
		_, _ = f.file.ReadAt(b[:], int64(rank)*4) // beyond the end: none
		return binary.LittleEndian.Uint32(b[:])
	}
	if int(rank) >= len(f.mem) {
		return noFirst
	}
	return f.mem[rank]
}

func (f *firsts) set(rank, position uint32) {
	if f.mem == nil && f.file == nil && f.records > firstsInMemory {
		if file, err := snapshot.ScratchFile(f.dir); err == nil {
			f.file = file
		}
	}
	if f.file != nil {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], position)
		if _, err := f.file.WriteAt(b[:], int64(rank)*4); err == nil {
			return
		}
		f.backToMemory() // the scratch directory is full
	}
	if n := int(rank) + 1; n > len(f.mem) {
		f.mem = append(f.mem, make([]uint32, max(n, int(f.records))-len(f.mem))...)
	}
	f.mem[rank] = position
}

func (f *firsts) backToMemory() {
	f.mem = make([]uint32, f.records)
	r := bufio.NewReader(io.NewSectionReader(f.file, 0, 4*int64(f.records)))
	for i := range f.mem {
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			break // beyond what was written: none
		}
		f.mem[i] = binary.LittleEndian.Uint32(b[:])
	}
	f.file.Close()
	f.file = nil
}

func (f *firsts) close() {
	if f.file != nil {
		f.file.Close()
	}
}

// positions is a set of positions of names. Safe for concurrent use.
type positions struct {
	mu   sync.Mutex
	bits []uint64
}

func (p *positions) add(n uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if need := int(n/64) + 1; need > len(p.bits) {
		p.bits = append(p.bits, make([]uint64, max(need, 2*len(p.bits))-len(p.bits))...)
	}
	p.bits[n/64] |= 1 << (n % 64)
}

func (p *positions) has(n uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(n/64) < len(p.bits) && p.bits[n/64]&(1<<(n%64)) != 0
}

// each calls fn for the members in order, until it returns false.
func (p *positions) each(fn func(uint32) bool) {
	for i, word := range p.bits {
		for ; word != 0; word &= word - 1 {
			if !fn(uint32(64*i + bits.TrailingZeros64(word))) {
				return
			}
		}
	}
}
