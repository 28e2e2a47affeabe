package volume

import (
	"encoding/binary"
	"fmt"
)

// tablePart is the length from which a contents table goes on in another frame.
const tablePart = 1 << 20

// table collects the contents table of a volume that is being written, already encoded: 36 bytes a blob. Parts that are full go to a
// spill file if there is one, so that a volume of any size costs one part of memory.
type table struct {
	spill func() (File, error) // makes that file; nil: all parts stay in memory

	done  []tableRows
	now   tableRows
	bytes int64 // of rows in done
	end   int64 // of the last frame listed
	blobs uint64
	file  File
	fault error // of the file: the table is incomplete
}

// tableRows is the payload of one frame of the table, without its head.
type tableRows struct {
	base   int64 // the first row's offset counts from here
	count  uint64
	rows   []byte // nil: in the file
	at     int64
	length int
}

func (t *table) add(offset int64, h Header, blobs []Blob) {
	if len(t.now.rows) >= tablePart {
		t.turn()
	}
	if t.now.count == 0 {
		t.now.base = t.end
	}
	b := binary.AppendUvarint(t.now.rows, uint64(offset-t.end))
	b = append(b, byte(h.Kind))
	b = binary.AppendUvarint(b, uint64(h.Stored()))
	b = binary.AppendUvarint(b, uint64(len(blobs)))
	t.now.rows = appendRows(b, blobs)
	t.now.count++
	t.end = offset + int64(h.Stored())
	t.blobs += uint64(len(blobs))
}

// turn begins the next part.
func (t *table) turn() {
	full := t.now
	full.length = len(full.rows)
	t.now = tableRows{}
	if t.spill != nil && t.fault == nil {
		full.at = t.bytes
		if t.fault = t.put(full.rows); t.fault == nil {
			t.now.rows, full.rows = full.rows[:0], nil
		}
	}
	t.done = append(t.done, full)
	t.bytes += int64(full.length)
}

func (t *table) put(rows []byte) (err error) {
	if t.file == nil {
		if t.file, err = t.spill(); err != nil {
			return fmt.Errorf("contents table: %w", err)
		}
	}
	if _, err = t.file.WriteAt(rows, t.bytes); err != nil {
		return fmt.Errorf("contents table: %w", err)
	}
	return nil
}

// size is how many bytes of rows the table has.
func (t *table) size() int64 { return t.bytes + int64(len(t.now.rows)) }

// parts is in how many frames the table goes: at least one.
func (t *table) parts() int { return len(t.done) + 1 }

// part gives the payload of one of them.
func (t *table) part(i int) ([]byte, error) {
	if t.fault != nil {
		return nil, t.fault
	}
	r := t.now
	r.length = len(r.rows)
	switch {
	case i < len(t.done):
		r = t.done[i]
	case r.count == 0:
		r.base = t.end
	}
	b := binary.AppendUvarint(make([]byte, 0, r.length+32), uint64(i))
	b = binary.AppendUvarint(b, uint64(t.parts()))
	b = binary.AppendUvarint(b, uint64(r.base))
	b = binary.AppendUvarint(b, r.count)
	if r.rows != nil || r.length == 0 {
		return append(b, r.rows...), nil
	}
	head := len(b)
	b = b[:head+r.length]
	if err := readFull(t.file, b[head:], r.at); err != nil {
		return nil, fmt.Errorf("contents table: %w", err)
	}
	return b, nil
}

func (t *table) close() error {
	if t.file == nil {
		return nil
	}
	f := t.file
	t.file = nil
	return f.Close()
}

// Table is the contents table of a volume that will have none. Not safe for concurrent use; close it.
type Table struct{ t table }

// Table takes the contents table, as it would be written now, out of a volume that cannot be sealed any more. Rows of frames whose write
// failed are among it.
func (w *Writer) Table() *Table {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &Table{w.table}
	w.table = table{end: w.table.end}
	return t
}

// Parts is how many payloads of frames it has.
func (t *Table) Parts() int { return t.t.parts() }

// Part is the payload of one of them, from 0.
func (t *Table) Part(i int) ([]byte, error) { return t.t.part(i) }

// Close releases the spill file.
func (t *Table) Close() error { return t.t.close() }
