package archive

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"snapfs/store"
	"snapfs/store/volume"
)

// parityMaker makes the parity over the volumes of a set. What has been added up lies in files of a directory, one for each parity
// volume of a group. A volume is added by writing new files beside those of the volumes before it, which go only when the catalogue
// knows the volume: so a run that is killed leaves the sums up to the last complete volume.
type parityMaker struct {
	dir  string
	name string // of the set
	m    int
	code *volume.SetCode

	adding *adding
}

// adding is a volume that is being added.
type adding struct {
	number uint32
	old    []*os.File // nil: the first of its group
	new    []*os.File
	bufs   [][]byte
	code   *volume.SetCode
	digest hash.Hash
	at     int64
}

func newParityMaker(dir, name string, m int) (*parityMaker, error) {
	code, err := volume.NewSetCode(m)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s: %w: not a directory", dir, ErrTarget)
	}
	return &parityMaker{dir: dir, name: name, m: m, code: code}, nil
}

// groupOf is the group of a volume, from 0, and its number there.
func groupOf(number uint32) (group, n int) {
	return int(number-1) / volume.SetData, int(number-1) % volume.SetData
}

// sum is the file with parity j over the volumes of a group up to one.
func (p *parityMaker) sum(number uint32, j int) string {
	group, _ := groupOf(number)
	return filepath.Join(p.dir, fmt.Sprintf("%s.sum-%d-%d.%d", p.name, group+1, j+1, number))
}

// begin starts to add a volume; what it returns takes its bytes.
func (p *parityMaker) begin(number uint32) (io.Writer, error) {
	p.stop()
	_, n := groupOf(number)
	a := &adding{number: number, code: p.code, digest: volume.NewDigest()}
	p.adding = a
	for j := range p.m {
		if n > 0 {
			f, err := os.Open(p.sum(number-1, j))
			if errors.Is(err, os.ErrNotExist) {
				err = fmt.Errorf("%w: %w", ErrParityLost, err)
			}
			if err != nil {
				return nil, err
			}
			a.old = append(a.old, f)
		}
		f, err := os.OpenFile(p.sum(number, j), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return nil, err
		}
		a.new = append(a.new, f)
		a.bufs = append(a.bufs, make([]byte, parityBuffer))
	}
	return a, nil
}

const parityBuffer = 256 << 10

// Write adds the next bytes of the volume.
func (a *adding) Write(p []byte) (int, error) {
	taken := len(p)
	a.digest.Write(p)
	for len(p) > 0 {
		n := min(len(p), parityBuffer)
		if err := a.add(p[:n], n); err != nil {
			return taken - len(p), err
		}
		p = p[n:]
	}
	return taken, nil
}

// add writes the sums of n bytes: what was there and, if any, those of the volume.
func (a *adding) add(p []byte, n int) error {
	sums := make([][]byte, len(a.new))
	for j := range sums {
		sums[j] = a.bufs[j][:n]
		clear(sums[j])
		if a.old == nil {
			continue
		}
		if _, err := a.old[j].ReadAt(sums[j], a.at); err != nil && err != io.EOF {
			return err
		}
	}
	if p != nil {
		_, number := groupOf(a.number)
		if err := a.code.Add(number, p, sums); err != nil {
			return err
		}
	}
	for j := range sums {
		if _, err := a.new[j].WriteAt(sums[j], a.at); err != nil {
			return err
		}
	}
	a.at += int64(n)
	return nil
}

// complete ends the volume that was added, and returns its digest.
func (p *parityMaker) complete(number uint32, size int64) (d [32]byte, err error) {
	a := p.adding
	if a == nil || a.number != number || a.at != size {
		return d, fmt.Errorf("%w: sums of volume %d", ErrParityLost, number)
	}
	longest := size
	for _, f := range a.old {
		info, err := f.Stat()
		if err != nil {
			return d, err
		}
		longest = max(longest, info.Size())
	}
	for a.at < longest {
		if err := a.add(nil, int(min(parityBuffer, longest-a.at))); err != nil {
			return d, err
		}
	}
	for _, f := range a.new {
		if err := f.Sync(); err != nil {
			return d, err
		}
	}
	a.digest.Sum(d[:0])
	p.stop()
	return d, syncDir(p.dir)
}

// settled forgets the sums without a volume that the catalogue has.
func (p *parityMaker) settled(number uint32) error {
	if _, n := groupOf(number); n == 0 {
		return nil
	}
	var errs []error
	for j := range p.m {
		if err := os.Remove(p.sum(number-1, j)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// stop closes the files of the volume being added.
func (p *parityMaker) stop() {
	if p.adding == nil {
		return
	}
	for _, f := range append(p.adding.old, p.adding.new...) {
		f.Close() // synced, or of no use
	}
	p.adding = nil
}

// openParity makes ready for parity volumes, if the set is to have any.
func (w *setWriter) openParity() (err error) {
	if w.state.parityVolumes == 0 {
		return nil
	}
	w.parity, err = newParityMaker(w.o.ParityDir, w.set.Name, w.state.parityVolumes)
	if err == nil && w.o.VolumeSize > 0 {
		label, _ := volume.EncodeLabel(w.parityLabel(volume.ID{1}, 1, 0, 0))
		w.o.VolumeSize = volume.LargestCovered(w.o.VolumeSize, len(label)+volume.SetData*64, w.state.parity)
	}
	return err
}

func (w *setWriter) closeParity() error {
	if w.parity != nil {
		w.parity.stop()
	}
	return nil
}

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
	case p.Volumes < 1 || p.Volumes > volume.SetParityMost || p.Number < 0 || p.Number >= p.Volumes || p.Group < 0 || len(p.Covered) == 0:
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
	f, err := os.Open(w.parity.sum(uint32(upTo), j))
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

// finishParity removes the sums when the set is finished.
func (w *setWriter) finishParity() error {
	if w.parity == nil {
		return nil
	}
	names, err := filepath.Glob(filepath.Join(w.parity.dir, w.set.Name+".sum-*"))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
