package archive

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"snapfs/store"
	"snapfs/store/volume"
)

// Fields of the parity record of a label. On disk; append only.
const (
	parityLayout store.Tag = 1 | store.Critical
	parityData   store.Tag = 2 | store.Critical
	parityRows   store.Tag = 3 | store.Critical
	parityNumber store.Tag = 4 | store.Critical
	parityGroup  store.Tag = 5 | store.Critical
	parityList   store.Tag = 6 | store.Critical
)

// SetParity says what a parity volume covers.
type SetParity struct {
	Volumes int // parity volumes of the group
	Number  int // of this one, from 0
	Group   int // from 0
	Covered []Covered
}

// Covered is a volume that parity covers. Volumes that are not there count as zeros.
type Covered struct {
	ID     volume.ID
	Number uint32
	Length int64
	Digest [32]byte // volume.NewDigest over its bytes
}

// Encode gives the form in the label.
func (p *SetParity) Encode() []byte {
	w := store.AppendFields(nil)
	w.Uint(parityLayout, 1)
	w.Uint(parityData, volume.SetData)
	w.Uint(parityRows, uint64(p.Volumes))
	w.Uint(parityNumber, uint64(p.Number)+1)
	w.Uint(parityGroup, uint64(p.Group)+1)
	var rows []byte
	for _, c := range p.Covered {
		rows = binary.AppendUvarint(rows, uint64(c.Number))
		rows = append(rows, c.ID[:]...)
		rows = binary.AppendUvarint(rows, uint64(c.Length))
		rows = append(rows, c.Digest[:]...)
	}
	w.Bytes(parityList, rows)
	return w.Encoded()
}

// ParseSetParity is the inverse of Encode. Errors: ErrRecord, store.ErrNewerFormat.
func ParseSetParity(data []byte) (*SetParity, error) {
	p, layout, k := &SetParity{}, uint64(0), uint64(0)
	r := store.ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case parityLayout:
			layout = r.Uint()
		case parityData:
			k = r.Uint()
		case parityRows:
			p.Volumes = int(r.Uint32())
		case parityNumber:
			p.Number = int(r.Uint32()) - 1
		case parityGroup:
			p.Group = int(r.Uint32()) - 1
		case parityList:
			p.addRows(&r)
		default:
			r.Unknown()
		}
	}
	switch {
	case r.Err() != nil:
		return nil, fmt.Errorf("%w: parity: %w", ErrRecord, r.Err())
	case layout != 1 || k != volume.SetData:
		return nil, fmt.Errorf("parity of layout %d: %w", layout, store.ErrNewerFormat)
	case p.Volumes < 1 || p.Volumes > volume.SetParityMost || p.Number < 0 || p.Number >= p.Volumes || p.Group < 0 || len(p.Covered) == 0 || !p.inGroup():
		return nil, fmt.Errorf("%w: parity", ErrRecord)
	}
	return p, nil
}

func (p *SetParity) addRows(r *store.FieldReader) {
	for b := r.Bytes(); len(b) > 0; {
		var c Covered
		number, rest, err := store.CutUvarint(b)
		if err != nil || len(rest) < len(c.ID) || number > 1<<31 {
			r.Refuse("covered volumes")
			return
		}
		c.Number, c.ID = uint32(number), volume.ID(rest)
		length, rest, err := store.CutUvarint(rest[len(c.ID):])
		if err != nil || len(rest) < len(c.Digest) || length > 1<<62 {
			r.Refuse("covered volumes")
			return
		}
		c.Length, c.Digest, b = int64(length), [32]byte(rest), rest[len(c.Digest):]
		p.Covered = append(p.Covered, c)
	}
}

// inGroup reports whether the volumes are some of the group, each once.
func (p *SetParity) inGroup() bool {
	last := uint64(p.Group) * volume.SetData
	most := last + volume.SetData
	for _, c := range p.Covered {
		if uint64(c.Number) <= last || uint64(c.Number) > most {
			return false
		}
		last = uint64(c.Number)
	}
	return true
}

// covered lists the volumes of a group.
func (w *setWriter) covered(group int) (list []Covered) {
	for _, v := range w.set.Volumes {
		if g, _ := groupOf(v.Number); !v.Parity && g == group {
			list = append(list, Covered{v.ID, v.Number, v.Size, v.Digest})
		}
	}
	return list
}

// dataVolumes is how many volumes of the set are no parity volumes.
func (w *setWriter) dataVolumes() (n int) {
	for _, v := range w.set.Volumes {
		if !v.Parity {
			n++
		}
	}
	return n
}

func (w *setWriter) parityLabel(id volume.ID, number uint32, group, j int) volume.Label {
	l := w.label(id, number)
	p := SetParity{Volumes: w.state.parityVolumes, Number: j, Group: group, Covered: w.covered(group)}
	l.Set.Parity = p.Encode()
	return l
}

// writeParity writes the parity volumes that are not there yet.
func (w *setWriter) writeParity(ctx context.Context) error {
	if w.parity == nil {
		return nil
	}
	if err := w.catchUp(ctx); err != nil {
		return err
	}
	data := w.dataVolumes()
	have := len(w.set.Volumes) - data
	last, _ := groupOf(uint32(data))
	for group := 0; group <= last; group++ {
		for j := range w.parity.m {
			if group*w.parity.m+j < have {
				continue
			}
			if err := w.parityVolume(ctx, group, j, min(data, (group+1)*volume.SetData)); err != nil {
				return err
			}
		}
	}
	return nil
}

// parityVolume writes one of them: the sums over the volumes of a group up to one.
func (w *setWriter) parityVolume(ctx context.Context, group, j, upTo int) error {
	number := uint32(len(w.set.Volumes)) + 1
	f, err := os.Open(w.parity.file(uint32(upTo), j))
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrParityLost, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	w.full = false
	if err := w.change(ctx, number); err != nil {
		return err
	}
	m, err := w.target.Open(ctx, Slot{Name: w.set.Name, Number: number, Parity: group*w.parity.m + j + 1})
	if err != nil {
		return err
	}
	entry, err := w.copyParity(f, m, number, group, j)
	if err != nil {
		if EndOfMedium(err) {
			err = fmt.Errorf("%s: %w: %w", m.Where(), ErrMediumFull, err)
		}
		return errors.Join(err, m.Abandon())
	}
	w.set.Volumes = append(w.set.Volumes, entry)
	w.sealed += entry.Size
	return w.save(ctx)
}

func (w *setWriter) copyParity(sums *os.File, m Medium, number uint32, group, j int) (entry store.ArchiveVolume, err error) {
	entry = store.ArchiveVolume{Number: number, Parity: true, Where: m.Where()}
	if _, err := rand.Read(entry.ID[:]); err != nil {
		return entry, err
	}
	aead, err := w.keys.VolumeAEAD(entry.ID)
	if err != nil {
		return entry, err
	}
	out, err := volume.Create(&tape{m: m, span: volume.SpanLength(w.state.parity)}, w.parityLabel(entry.ID, number, group, j), volume.Options{AEAD: aead, Parity: w.state.parity})
	if err != nil {
		return entry, err
	}
	buf := make([]byte, 8+volume.SetParityFrame)
	for at := int64(0); ; {
		n, err := io.ReadFull(sums, buf[8:])
		if n > 0 {
			binary.LittleEndian.PutUint64(buf, uint64(at))
			if ok, err := m.Reserve(out.SealedSize(8+n, 0)); err != nil || !ok {
				return entry, errors.Join(err, fmt.Errorf("%s: %w", m.Where(), ErrMediumFull))
			}
			if _, _, err := out.Append(volume.FrameSetParity, buf[:8+n], nil); err != nil {
				return entry, err
			}
			at += int64(n)
			w.o.progress(Progress{Phase: PhaseParity, Done: at})
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return entry, err
		}
	}
	if err := out.Seal(); err != nil {
		return entry, err
	}
	entry.Size = out.Size()
	return entry, errors.Join(out.Close(), m.Complete(entry.Size))
}
