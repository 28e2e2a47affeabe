package volume

import (
	"bytes"
	"fmt"
	"io"
	"slices"
)

// repairPasses bounds how often all sets are tried: each pass may bring to light sets that were damaged themselves.
const repairPasses = 16

// RepairOptions refine Repair.
type RepairOptions struct {
	Volume ID // what the file's name says; zero: as in CheckOptions
}

// RepairReport is what Repair did.
type RepairReport struct {
	Size   int64   // of dst
	Healed []Range // of dst: what was restored
	Moved  int64   // bytes that had been inserted or, negative, removed in all
	Lost   []Range // of dst: still not what was written
	Copy   Report  // what Check says of dst
}

// Repair writes to dst, which must be empty, the volume in src as it was, as far as its parity and repeated label allow; the
// rest is copied as it is, with zeros where src cannot be read. What it restores are the exact former bytes. It needs no
// key and about as much memory as two sets of parity, 5 MiB by default. dst is synced, not closed. Errors: those of
// Check, but damage is none; dst's.
func Repair(src io.ReaderAt, size int64, dst File, o RepairOptions) (RepairReport, error) {
	c := checker{r: src, o: CheckOptions{Volume: o.Volume}, report: Report{Size: size}}
	if err := c.identify(); err != nil {
		return RepairReport{}, err
	}
	r := repair{src: src, dst: dst, v: c.report.Volume, srcSize: size, fileSize: size}
	if err := r.run(); err != nil {
		return RepairReport{}, fmt.Errorf("repair of volume %s: %w", r.v, err)
	}
	report, err := Check(dst, r.fileSize, CheckOptions{Volume: r.v})
	if err != nil {
		return RepairReport{}, err
	}
	done := RepairReport{Size: r.fileSize, Healed: merge(r.healed), Moved: r.align.moved(), Copy: report}
	for _, d := range report.Damage {
		done.Lost = append(done.Lost, d.Range)
	}
	done.Lost = merge(done.Lost)
	return done, nil
}

// PartReport is what RepairPart did.
type PartReport struct {
	Size   int64   // of dst
	Healed []Range // of dst
	Moved  int64   // bytes that had been inserted or, negative, removed
	Whole  bool    // all frames of the part are what was written, and none is missing
}

// RepairPart is Repair for a part of a volume that has not come in full yet: src has the bytes from an offset on, where a whole frame, or with 0 the
// label, begins and nothing has moved, to size; below from it reads as zeros. What is protected by parity that lies in the part is healed.
func RepairPart(src io.ReaderAt, from, size int64, v ID, dst File) (PartReport, error) {
	r := repair{src: src, dst: dst, v: v, from: from, srcSize: size, fileSize: size}
	if err := r.run(); err != nil {
		return PartReport{}, fmt.Errorf("repair of volume %s: %w", v, err)
	}
	whole, err := r.whole()
	return PartReport{Size: r.fileSize, Healed: merge(r.healed), Moved: r.align.moved(), Whole: whole}, err
}

// whole reports whether nothing of dst from r.from on is damaged or missing.
func (r *repair) whole() (whole bool, err error) {
	whole = true
	if r.from == 0 {
		l, _, err := ReadLabel(r.dst, r.fileSize)
		whole = err == nil && l.Volume == r.v
	}
	end, gaps, err := ScanPayloads(r.dst, r.from, r.fileSize, r.v, func(_ int64, _ Header, _ []byte, damage error) error {
		whole = whole && damage == nil
		return nil
	})
	if end != r.fileSize {
		t, ok := trailerAt(r.dst, end, r.v)
		whole = whole && ok && end+TrailerSize == r.fileSize && t.Size == r.fileSize
	}
	return whole && len(gaps) == 0, err
}

// repair is one Repair.
type repair struct {
	src   io.ReaderAt
	dst   File
	v     ID
	align alignment
	from  int64 // where src begins

	srcSize  int64
	fileSize int64 // of dst; before the copy, of src
	healed   []Range
	trusted  []Range // what the sums of frames say is whole; nil: not looked at in this pass
}

func (r *repair) run() (err error) {
	if r.align, err = align(r.src, r.from, r.srcSize, r.v); err != nil {
		return err
	}
	if err := r.copy(); err != nil {
		return err
	}
	for range repairPasses {
		before := len(r.healed)
		if err := r.pass(); err != nil {
			return err
		}
		if len(r.healed) == before {
			break
		}
	}
	if r.from == 0 {
		if err := r.label(); err != nil {
			return err
		}
	}
	if err := r.dst.Truncate(r.fileSize); err != nil {
		return err
	}
	return r.dst.Sync()
}

// copy puts every piece to its place.
func (r *repair) copy() error {
	buf := make([]byte, min(lastWindow, r.srcSize-r.from))
	end := r.from
	err := r.align.each(r.srcSize, func(original, actual, length int64) error {
		if skip := r.from - original; skip > 0 {
			skip = min(skip, length)
			original, actual, length = original+skip, actual+skip, length-skip
		}
		for length > 0 {
			b := buf[:min(length, int64(len(buf)))]
			if err := readWhatIsThere(r.src, b, actual); err != nil {
				return err
			}
			if _, err := r.dst.WriteAt(b, original); err != nil {
				return err
			}
			n := int64(len(b))
			original, actual, length = original+n, actual+n, length-n
		}
		end = max(end, original)
		return nil
	})
	r.fileSize = end
	return err
}

// pass tries all sets, the last first: each covers those of the spans before.
func (r *repair) pass() error {
	sets, err := r.findSets()
	if err != nil {
		return err
	}
	r.trusted = nil
	for _, s := range sets {
		if err := r.heal(s); err != nil {
			return err
		}
	}
	return nil
}

// findSets reads the heads of parity frames: one of a set is enough.
func (r *repair) findSets() ([]*paritySet, error) {
	found := map[int64]*paritySet{}
	_, _, err := Scan(r.dst, r.from, r.fileSize, r.v, func(offset int64, h Header) error {
		if h.Kind != FrameParity {
			return nil
		}
		s, part, err := readSetHead(r.dst, offset, r.v)
		if err != nil || s.frameAt(part) != offset {
			return nil
		}
		if known := found[s.at]; known == nil {
			found[s.at] = &s
		} else if s.wholeTrailer(r.v) {
			known.trailer = s.trailer
		}
		return nil
	})
	sets := make([]*paritySet, 0, len(found))
	for _, s := range found {
		sets = append(sets, s)
	}
	slices.SortFunc(sets, func(a, b *paritySet) int { return int(min(max(b.at-a.at, -1), 1)) })
	return sets, err
}

// write restores bytes of dst that differ.
func (r *repair) write(at int64, b []byte) error {
	now := make([]byte, len(b))
	if err := readWhatIsThere(r.dst, now, at); err != nil {
		return err
	}
	if bytes.Equal(now, b) && at+int64(len(b)) <= r.fileSize {
		return nil
	}
	if _, err := r.dst.WriteAt(b, at); err != nil {
		return err
	}
	r.fileSize = max(r.fileSize, at+int64(len(b)))
	first, last := 0, len(b)
	for first < last-1 && now[first] == b[first] {
		first++
	}
	for last > first+1 && now[last-1] == b[last-1] {
		last--
	}
	r.healed = append(r.healed, Range{at + int64(first), int64(last - first)})
	return nil
}

// label restores the label from the repeated one, or the other way round, where no parity did.
func (r *repair) label() error {
	var first, again []byte
	if _, n, err := ReadLabel(r.dst, r.fileSize); err == nil {
		first = make([]byte, n)
		if err := readFull(r.dst, first, 0); err != nil {
			return err
		}
	}
	type hole struct {
		offset int64
		head   Header
	}
	var damaged *hole
	_, _, err := ScanPayloads(r.dst, 0, r.fileSize, r.v, func(offset int64, h Header, stored []byte, damage error) error {
		switch {
		case h.Kind != FrameLabel:
		case damage == nil:
			again = bytes.Clone(stored[HeaderSize:])
		default:
			damaged = &hole{offset, h}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case first == nil && again != nil:
		if l, n, err := ParseLabel(again); err == nil && n == len(again) && l.Volume == r.v {
			return r.write(0, again)
		}
	case first != nil && damaged != nil && damaged.head.Verify(first) == nil:
		return r.write(damaged.offset+HeaderSize, first)
	}
	return nil
}

// merge joins ranges that touch.
func merge(list []Range) (merged []Range) {
	slices.SortFunc(list, func(a, b Range) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	for _, r := range list {
		if n := len(merged) - 1; n >= 0 && r.Offset <= merged[n].End() {
			merged[n].Length = max(merged[n].End(), r.End()) - merged[n].Offset
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}
