package volume

import (
	"io"
	"slices"
)

// maxShift is how far bytes are followed that were inserted or removed; what is lost beyond it no parity restores.
const maxShift = fullSpan

// frameRun is a run of frames without a gap between them or their numbers.
type frameRun struct {
	actual   int64 // where it lies
	original int64 // where it belongs, if known
	known    bool
	length   int64
	linked   bool // no frame is missing between the run before and this one
}

// alignment says where the bytes of a volume lie after some were inserted or removed: from each original offset on, so
// many bytes further.
type alignment []shift

type shift struct{ from, by int64 }

// align finds out which frames have moved. The number of a frame and the length of the one before say where it belongs;
// where frames are missing the next parity frame says so, or the trailer.
func align(r io.ReaderAt, from, size int64, v ID) (alignment, error) {
	runs, err := frameRuns(r, from, size, v)
	if err != nil {
		return nil, err
	}
	for i := range runs[:max(len(runs)-1, 0)] {
		if runs[i].known && runs[i+1].linked && !runs[i+1].known {
			runs[i+1].place(runs[i].original + runs[i].length)
		}
	}
	for i := len(runs) - 1; i > 0; i-- {
		if runs[i].known && runs[i].linked && !runs[i-1].known {
			runs[i-1].place(runs[i].original - runs[i-1].length)
		}
	}
	a := alignment{{}}
	for _, run := range runs {
		by := run.actual - run.original
		if last := a[len(a)-1]; run.known && by != last.by && run.original >= last.from {
			a = append(a, shift{run.original, by})
		}
	}
	return a, nil
}

// place says where a run belongs, unless that is too far away.
func (f *frameRun) place(original int64) {
	if d := f.actual - original; original >= 0 && d <= maxShift && d >= -maxShift {
		f.original, f.known = original, true
	}
}

// frameRuns reads the headers of a volume from an offset on, where a frame belongs if it lies there, and of parity frames where they belong.
func frameRuns(r io.ReaderAt, from, size int64, v ID) (runs []frameRun, err error) {
	next := int64(0)
	end, _, err := Scan(r, from, size, v, func(offset int64, h Header) error {
		n := len(runs) - 1
		switch {
		case int64(h.Sequence) < next:
			return nil // it came twice
		case n < 0 || int64(h.Sequence) != next || runs[n].actual+runs[n].length != offset:
			runs = append(runs, frameRun{actual: offset, linked: n >= 0 && int64(h.Sequence) == next})
			n++
		}
		if from > 0 && offset == from {
			runs[n].place(from)
		}
		if h.Sequence == 0 {
			if _, length, err := ReadLabel(r, size); err == nil {
				runs[n].place(int64(length))
			}
		}
		if h.Kind == FrameParity && !runs[n].known {
			if set, part, err := readSetHead(r, offset, v); err == nil {
				runs[n].place(set.frameAt(part) - runs[n].length)
			}
		}
		runs[n].length += int64(h.Stored())
		next = int64(h.Sequence) + 1
		return nil
	})
	if err != nil {
		return nil, err
	}
	if t, ok := trailerAt(r, end, v); ok && len(runs) > 0 && int64(t.Frames) == next {
		if last := &runs[len(runs)-1]; !last.known && last.actual+last.length == end {
			last.place(t.Size - TrailerSize - last.length)
		}
	}
	return runs, nil
}

// readSetHead reads the head of a parity frame.
func readSetHead(r io.ReaderAt, offset int64, v ID) (paritySet, int, error) {
	var b [setHead + TrailerSize]byte
	if err := readWhatIsThere(r, b[:], offset+HeaderSize); err != nil {
		return paritySet{}, 0, err
	}
	return parseSetHead(b[:], v)
}

// trailerAt reads a trailer that may have moved.
func trailerAt(r io.ReaderAt, offset int64, v ID) (Trailer, bool) {
	var b [TrailerSize]byte
	if readFull(r, b[:], offset) != nil {
		return Trailer{}, false
	}
	t, err := parseTrailer(b[:])
	return t, err == nil && t.Volume == v
}

// moved is by how much the volume grew.
func (a alignment) moved() int64 { return a[len(a)-1].by }

// shifts are the different distances.
func (a alignment) shifts() (list []int64) {
	for _, s := range a {
		if !slices.Contains(list, s.by) && len(list) < 16 {
			list = append(list, s.by)
		}
	}
	return list
}

// each calls fn for the pieces of a volume of size bytes as it lies there: where they belong, and where they are.
func (a alignment) each(size int64, fn func(original, actual, length int64) error) error {
	for i, s := range a {
		end := size - s.by
		if i+1 < len(a) {
			end = min(end, a[i+1].from)
		}
		if end > s.from {
			if err := fn(s.from, s.from+s.by, end-s.from); err != nil {
				return err
			}
		}
	}
	return nil
}
