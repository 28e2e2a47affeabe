package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"snapfs/store/volume"
)

// Volume is a volume of an archive set that was found somewhere.
type Volume struct {
	Name    string // where, for people
	ID      volume.ID
	Label   *volume.Label  // nil: neither the first nor the repeated one is whole
	Trailer volume.Trailer // zero: none; never finished, cut short or damaged
	Size    int64

	named  bool
	piped  bool // it came through a pipe, and was kept
	made   bool // out of parity volumes
	gone   bool // a part of it is damaged beyond its parity; guarded by Bare.mu
	set    *openSet
	number uint32      // in the index
	source io.ReaderAt // nil: it came through a pipe
	found  io.ReaderAt // as it was found
	length int64       // likewise
	pages  *os.File
	base   int64
	healed *overlay // nil: as it was found
	report volume.RepairReport
}

// String names the volume for people.
func (v *Volume) String() string {
	if v.Label == nil || v.Label.Set == nil {
		return fmt.Sprintf("%s (volume %s)", v.Name, v.ID)
	}
	return fmt.Sprintf("%s (%s)", v.Name, LabelText(v.Label))
}

// LabelText names a volume as its label does: what is written on the medium.
func LabelText(l *volume.Label) string {
	s := l.Set
	what := "volume"
	if len(s.Parity) > 0 {
		what = "parity volume"
	}
	name := s.Name
	if name == "" {
		name = fmt.Sprintf("%x", s.ID)
	}
	return fmt.Sprintf("%s %d of set %s, pool %s, %s", what, s.Sequence, name, s.Pool, s.Level)
}

// Parity reports whether it holds parity over other volumes of its set.
func (v *Volume) Parity() bool {
	return v.Label != nil && v.Label.Set != nil && len(v.Label.Set.Parity) > 0
}

// Sealed reports whether it was finished and its end is there.
func (v *Volume) Sealed() bool { return v.Trailer.Size > 0 }

// findVolumes finds the volumes in a file or device. One that is damaged is found by searching, and healed as far as its parity goes.
func findVolumes(in *input, scratch string) (list []*Volume, err error) {
	for off := int64(0); off < in.size; {
		v, end := wholeVolume(in, off)
		if v == nil {
			break
		}
		v.named = in.named && !(in.rest && len(list) > 0) // a device may have held others before
		list = append(list, v)
		next, isLabel := behind(in, end)
		if in.rest && !isLabel {
			return list, nil // what the device held before
		}
		off = next
		if off >= in.size {
			return list, nil
		}
	}
	off := int64(0)
	if n := len(list); n > 0 {
		off = list[n-1].base + list[n-1].Size
	}
	damaged, err := damagedVolumes(in, off, scratch)
	list = append(list, damaged...)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s: %w", in.name, ErrNoVolume)
	}
	return list, err
}

// wholeVolume is the volume at an offset, if its label and trailer are whole and it ends with the file, or all its headers are.
func wholeVolume(in *input, off int64) (*Volume, int64) {
	part := io.NewSectionReader(in.file, off, in.size-off)
	l, _, err := volume.ReadLabel(part, part.Size())
	if err != nil {
		return nil, 0
	}
	t, err := volume.ReadTrailer(part, part.Size())
	end := in.size
	if err != nil || t.Volume != l.Volume {
		if t, end, err = volume.FindVolume(in.file, off, in.size); err != nil {
			return nil, 0
		}
	}
	return in.volume(l.Volume, &l, t, off, end), end
}

func (in *input) volume(id volume.ID, l *volume.Label, t volume.Trailer, from, end int64) *Volume {
	part := io.NewSectionReader(in.file, from, end-from)
	return &Volume{
		Name: in.name, ID: id, Label: l, Trailer: t, Size: end - from, named: in.named, piped: in.piped,
		source: part, found: part, length: end - from, pages: in.file, base: from,
	}
}

// behind steps over the padding behind a volume; it says where it ends and whether a label follows.
func behind(in *input, off int64) (next int64, isLabel bool) {
	buf := make([]byte, 1<<16)
	for off < in.size {
		n, err := in.file.ReadAt(buf, off)
		rest := bytes.TrimLeft(buf[:n], "\x00")
		if off += int64(n - len(rest)); len(rest) > 0 {
			part := io.NewSectionReader(in.file, off, in.size-off)
			_, _, err := volume.ReadLabel(part, part.Size())
			return off, err == nil
		}
		if n == 0 && err != nil {
			break
		}
	}
	return in.size, false
}

// damagedVolumes finds volumes by searching.
func damagedVolumes(in *input, off int64, scratch string) (list []*Volume, err error) {
	s := volume.NewStream(&patient{r: in.file, pos: off, end: in.size})
	found := map[volume.ID]*Volume{}
	ends := map[volume.ID]int64{}
	for {
		it, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", in.name, err)
		}
		at := off + it.Offset
		v := found[it.Volume]
		if v == nil && !it.Volume.IsZero() {
			v = &Volume{ID: it.Volume, base: at}
			found[it.Volume] = v
			list = append(list, v)
		}
		switch it.Kind {
		case volume.StreamLabel:
			v.Label = it.Label
		case volume.StreamFrame:
			ends[it.Volume] = at + int64(it.Header.Stored())
			if it.Header.Kind == volume.FrameLabel && it.Damage == nil && v.Label == nil {
				if l, _, err := volume.ParseLabel(it.Stored[volume.HeaderSize:]); err == nil {
					v.Label = &l
				}
			}
		case volume.StreamEnd:
			ends[it.Volume] = max(ends[it.Volume], at)
		}
	}
	for i, v := range list {
		end := in.size
		if i+1 < len(list) {
			end = list[i+1].base
		}
		if in.rest {
			end = min(end, ends[v.ID])
		}
		from := v.base
		if i == 0 {
			from = off
		}
		*v = *in.volume(v.ID, v.Label, volume.Trailer{}, from, end)
		if err := v.heal(scratch); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// heal puts what parity restores in the place of what is damaged. Doing it again does nothing.
func (v *Volume) heal(scratch string) error {
	if v.healed != nil || v.source == nil {
		return nil
	}
	o, report, err := heal(v.source, v.Size, v.ID, scratch)
	if errors.Is(err, volume.ErrNotVolume) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", v, err)
	}
	v.healed, v.report, v.source, v.pages, v.Size = o, report, o, nil, report.Size
	if t, err := volume.ReadTrailer(o, o.size); err == nil {
		v.Trailer = t
	}
	if report.Copy.Label.Set != nil {
		l := report.Copy.Label
		v.Label = &l
	}
	return nil
}

func (v *Volume) close() error {
	if v.healed == nil {
		return nil
	}
	return v.healed.Close()
}
