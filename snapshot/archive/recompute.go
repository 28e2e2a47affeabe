package archive

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"snapfs/snapshot"
	"snapfs/store/volume"
)

// ErrTooManyLost: more volumes of a group are lost than there are parity volumes.
var ErrTooManyLost = errors.New("more volumes are lost than the parity volumes replace")

// ErrParity: parity volumes do not make what they say they cover. Nothing in them is signed: they may be forged, or of another time.
var ErrParity = errors.New("parity volumes do not fit the volumes of their set")

// lostGroup is what there is of a group of volumes that parity volumes protect together.
type lostGroup struct {
	set     [16]byte
	what    *SetParity             // of one of its parity volumes
	parity  []*Volume              // a row may come twice
	members map[uint32]io.ReaderAt // whole ones, by number of the volume
}

// groupsOf sorts parity volumes into groups; those whose label cannot be read in full are left out. Labels are not signed: one that says
// anything else of its group than the others is of a group of its own.
func groupsOf(list []*Volume) (groups []*lostGroup) {
	for _, v := range list {
		if !v.Parity() || v.source == nil {
			continue
		}
		p, err := ParseSetParity(v.Label.Set.Parity)
		if err != nil {
			continue
		}
		i := slices.IndexFunc(groups, func(g *lostGroup) bool { return g.what.sameGroup(p) })
		if i < 0 {
			groups = append(groups, &lostGroup{set: v.Label.Set.ID, what: p, members: map[uint32]io.ReaderAt{}})
			i = len(groups) - 1
		}
		groups[i].parity = append(groups[i].parity, v)
	}
	slices.SortFunc(groups, func(a, b *lostGroup) int { return cmp.Compare(a.what.Group, b.what.Group) })
	return groups
}

// sameGroup reports whether two parity volumes cover the same volumes together.
func (p *SetParity) sameGroup(q *SetParity) bool {
	return p.Group == q.Group && p.Volumes == q.Volumes && slices.Equal(p.Covered, q.Covered)
}

// gather looks which members are here and whole: the code would spread what is wrong in one over those it makes anew.
func (g *lostGroup) gather(ctx context.Context, list []*Volume) error {
	for _, c := range g.what.Covered {
		for _, v := range list {
			if v.ID != c.ID || v.source == nil || v.Size < c.Length || g.members[c.Number] != nil {
				continue
			}
			same, err := matches(ctx, v.source, c)
			if err != nil {
				return fmt.Errorf("%s: %w", v, err)
			}
			if same {
				g.members[c.Number] = v.source
			}
		}
	}
	return nil
}

// matches reports whether the bytes are those that the parity was made of.
func matches(ctx context.Context, r io.ReaderAt, c Covered) (bool, error) {
	d := volume.NewDigest()
	buf := make([]byte, volume.SetParityFrame)
	for at := int64(0); at < c.Length; at += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		b := buf[:min(int64(len(buf)), c.Length-at)]
		if err := readFull(r, b, at); errors.Is(err, errIO) || errors.Is(err, volume.ErrTorn) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		d.Write(b)
	}
	return bytes.Equal(d.Sum(nil), c.Digest[:]), nil
}

// lost are the members that must be made anew, longest last.
func (g *lostGroup) lost() (list []Covered) {
	for _, c := range g.what.Covered {
		if g.members[c.Number] == nil {
			list = append(list, c)
		}
	}
	return list
}

// number is a volume's place in its group.
func (g *lostGroup) number(c Covered) int { return int(c.Number) - 1 - g.what.Group*volume.SetData }

// recompute makes the lost volumes of a group; create opens what each is written to. Where that does not give what was lost, it is tried without each of
// the parity volumes in turn: bad is the one with which it does not. Memory: a piece of 1 MiB of every volume. Errors: ErrTooManyLost, ErrParity.
func (g *lostGroup) recompute(ctx context.Context, create func(Covered) (io.WriterAt, error)) (bad *Volume, err error) {
	lost := g.lost()
	rows, err := g.rows()
	if err != nil {
		return nil, err
	}
	if have := distinct(rows, nil); len(lost) > have {
		return nil, fmt.Errorf("%w: %d of %d, with %d parity volumes", ErrTooManyLost, len(lost), len(g.what.Covered), have)
	}
	out := map[uint32]io.WriterAt{}
	for _, c := range lost {
		if out[c.Number], err = create(c); err != nil {
			return nil, err
		}
	}
	failed := g.make(ctx, rows, lost, out)
	if !errors.Is(failed, ErrParity) {
		return nil, failed
	}
	for i, row := range rows {
		if distinct(rows, row) < len(lost) {
			continue
		}
		err := g.make(ctx, slices.Delete(slices.Clone(rows), i, i+1), lost, out)
		if err == nil {
			return row.v, nil
		}
		if !errors.Is(err, ErrParity) && !errors.Is(err, ErrTooManyLost) {
			return nil, err
		}
	}
	return nil, failed
}

// rows opens the parity volumes, but for those that cannot be read by this program.
func (g *lostGroup) rows() (rows []*parityRow, err error) {
	for _, v := range g.parity {
		row, err := openParityRow(v)
		if errors.Is(err, volume.ErrNewerVersion) {
			continue
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// distinct is how many volumes may be lost, with all rows but one.
func distinct(rows []*parityRow, without *parityRow) int {
	numbers := map[int]bool{}
	for _, row := range rows {
		if row != without {
			numbers[row.number] = true
		}
	}
	return len(numbers)
}

// make writes the lost volumes, and looks whether they are what was lost.
func (g *lostGroup) make(ctx context.Context, rows []*parityRow, lost []Covered, out map[uint32]io.WriterAt) error {
	code, err := volume.NewSetCode(g.what.Volumes)
	if err != nil {
		return err
	}
	longest := int64(0)
	for _, c := range lost {
		longest = max(longest, c.Length)
	}
	for at := int64(0); at < longest; at += volume.SetParityFrame {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.piece(code, rows, lost, out, at, min(volume.SetParityFrame, longest-at)); err != nil {
			return err
		}
	}
	return g.check(ctx, rows, lost, out)
}

// piece makes n bytes of the lost volumes.
func (g *lostGroup) piece(code *volume.SetCode, rows []*parityRow, lost []Covered, out map[uint32]io.WriterAt, at, n int64) error {
	shards := make([][]byte, volume.SetData+g.what.Volumes)
	zero := make([]byte, n)
	for i := range volume.SetData {
		shards[i] = zero
	}
	for _, c := range g.what.Covered {
		i := g.number(c)
		if shards[i] = nil; g.members[c.Number] == nil {
			continue
		}
		b := make([]byte, n)
		if part := min(n, c.Length-at); part > 0 {
			if err := readFull(g.members[c.Number], b[:part], at); err != nil {
				return err
			}
		}
		shards[i] = b
	}
	for _, row := range rows {
		if shards[volume.SetData+row.number] != nil {
			continue
		}
		b := make([]byte, n)
		if err := row.read(b, at); err == nil {
			shards[volume.SetData+row.number] = b
		} else if !isDamaged(err) {
			return err
		}
	}
	if err := code.Recompute(shards); err != nil {
		return fmt.Errorf("%w: %w", ErrTooManyLost, err)
	}
	for _, c := range lost {
		part := min(n, c.Length-at)
		if part <= 0 {
			continue
		}
		if _, err := out[c.Number].WriteAt(shards[g.number(c)][:part], at); err != nil {
			return err
		}
	}
	return nil
}

// check compares what was made with the digests of what was lost: they too may be forged, so it must at least be that volume of this set.
func (g *lostGroup) check(ctx context.Context, rows []*parityRow, lost []Covered, out map[uint32]io.WriterAt) error {
	for _, c := range lost {
		made := out[c.Number].(io.ReaderAt)
		same, err := matches(ctx, made, c)
		if err != nil {
			return err
		}
		if l, _, err := volume.ReadLabel(made, c.Length); !same || err != nil || l.Volume != c.ID || l.Set == nil || l.Set.ID != g.set {
			var names []string
			for _, row := range rows {
				names = append(names, row.v.String())
			}
			return fmt.Errorf("%w: volume %d, made anew, is not what it was; used were %s", ErrParity, c.Number, strings.Join(names, ", "))
		}
	}
	return nil
}

// parityRow finds the parity of a stretch of the volumes in a parity volume.
type parityRow struct {
	v      *Volume
	number int
	frames []parityFrame // by at
	buf    []byte
	cached int64 // offset of the frame in buf; -1: none
}

type parityFrame struct {
	at, offset int64
	head       volume.Header
}

// openParityRow lists the frames of a parity volume.
func openParityRow(v *Volume) (*parityRow, error) {
	p, err := ParseSetParity(v.Label.Set.Parity)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v, err)
	}
	row := &parityRow{v: v, number: p.Number, cached: -1}
	_, _, err = volume.Scan(v.source, 0, v.Size, v.ID, func(offset int64, h volume.Header) error {
		var b [8]byte
		if h.Kind != volume.FrameSetParity || h.Length <= 8 {
			return nil
		}
		if err := readFull(v.source, b[:], offset+volume.HeaderSize); err != nil {
			return nil
		}
		row.frames = append(row.frames, parityFrame{int64(binary.LittleEndian.Uint64(b[:])), offset, h})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v, err)
	}
	return row, nil
}

// read fills b with parity from an offset on; behind the last frame are zeros. Errors: volume.ErrTorn where frames are lost.
func (r *parityRow) read(b []byte, at int64) error {
	for len(b) > 0 {
		i := slices.IndexFunc(r.frames, func(f parityFrame) bool { return f.at <= at && at < f.at+int64(f.head.Length)-8 })
		if i < 0 {
			return volume.ErrTorn
		}
		payload, err := r.frame(r.frames[i])
		if err != nil {
			return err
		}
		n := copy(b, payload[8+at-r.frames[i].at:])
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// frame reads a frame of parity.
func (r *parityRow) frame(f parityFrame) ([]byte, error) {
	if r.cached == f.offset {
		return r.buf, nil
	}
	r.cached = -1
	if cap(r.buf) < int(f.head.Length) {
		r.buf = make([]byte, f.head.Length)
	}
	r.buf = r.buf[:f.head.Length]
	if err := readFull(r.v.source, r.buf, f.offset+volume.HeaderSize); err != nil {
		return nil, err
	}
	if err := f.head.Verify(r.buf); err != nil {
		return nil, err
	}
	r.cached = f.offset
	return r.buf, nil
}

// replaceLost makes volumes of a set that are not here anew in scratch, if parity volumes are.
func (b *Bare) replaceLost(ctx context.Context, s *openSet) error {
	for _, g := range groupsOf(s.volumes) {
		if !slices.ContainsFunc(g.what.Covered, func(c Covered) bool { return s.volume(c.ID) == nil }) {
			continue
		}
		if err := g.gather(ctx, s.volumes); err != nil {
			return err
		}
		err := b.replaceGroup(ctx, s, g)
		if errors.Is(err, ErrTooManyLost) || errors.Is(err, ErrParity) {
			b.o.Note(err.Error())
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (b *Bare) replaceGroup(ctx context.Context, s *openSet, g *lostGroup) error {
	made := map[uint32]*os.File{}
	defer func() {
		for _, f := range made { // of which nobody has use
			_ = f.Close()
		}
	}()
	bad, err := g.recompute(ctx, func(c Covered) (io.WriterAt, error) {
		f, err := snapshot.ScratchFile(b.o.Scratch)
		if err != nil {
			return nil, fmt.Errorf("scratch: %w", err)
		}
		made[c.Number] = f
		return f, nil
	})
	if err != nil {
		return err
	}
	if bad != nil {
		b.o.Note(fmt.Sprintf("%s does not fit the volumes of its set: passed over", bad))
	}
	for _, c := range g.lost() {
		if s.volume(c.ID) != nil {
			continue
		}
		in := &input{name: memberName(s.volumes, c), file: made[c.Number], size: c.Length}
		delete(made, c.Number)
		b.inputs = append(b.inputs, in)
		list, err := findVolumes(in, b.o.Scratch)
		if err != nil {
			return err
		}
		for _, v := range list {
			v.set, v.made = s, true
			s.volumes = append(s.volumes, v)
			b.o.Note(fmt.Sprintf("%s was made anew from the parity volumes of its set", v))
		}
	}
	return nil
}
