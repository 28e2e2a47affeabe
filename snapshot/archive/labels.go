package archive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// Labelled is a volume and what its label says.
type Labelled struct {
	Path   string
	Label  volume.Label
	Size   int64 // of the file; 0 in a pipe and on a tape
	Sealed bool  // it has a trailer; not known in a pipe
	Err    error // why there is no label
}

// ReadLabels reads the labels of volumes: files, devices, directories of volumes, and "-" for the first volume of stdin. Needs no key. In
// directories what is no volume is passed over.
func ReadLabels(paths []string, stdin io.Reader) (list []Labelled, err error) {
	for _, path := range paths {
		if path == "-" {
			l, err := FirstLabel(stdin)
			list = append(list, Labelled{Path: "-", Label: l, Err: err})
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			list = append(list, readLabel(path))
			continue
		}
		inside, err := labelsIn(path)
		if err != nil {
			return nil, err
		}
		list = append(list, inside...)
	}
	return list, nil
}

// labelsIn reads the labels in a directory, in the order of sets and volumes.
func labelsIn(dir string) (list []Labelled, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || filepath.Ext(e.Name()) == ".txt" {
			continue
		}
		l := readLabel(filepath.Join(dir, e.Name()))
		if errors.Is(l.Err, volume.ErrNotVolume) || errors.Is(l.Err, volume.ErrTorn) && filepath.Ext(e.Name()) != Suffix {
			continue
		}
		list = append(list, l)
	}
	slices.SortStableFunc(list, func(a, b Labelled) int {
		if a.Label.Set == nil || b.Label.Set == nil {
			return 0
		}
		if a.Label.Set.ID != b.Label.Set.ID {
			return cmp.Compare(a.Label.Set.Name, b.Label.Set.Name)
		}
		return cmp.Compare(a.Label.Set.Sequence, b.Label.Set.Sequence)
	})
	return list, nil
}

// readLabel reads the label at the start of a file or device, or the one that is repeated at its end.
func readLabel(path string) (l Labelled) {
	l.Path = path
	f, err := os.Open(path)
	if err != nil {
		l.Err = err
		return l
	}
	defer f.Close()
	if l.Size, err = f.Seek(0, io.SeekEnd); err != nil || l.Size == 0 { // a tape
		_, _ = f.Seek(0, io.SeekStart)
		l.Label, l.Err = FirstLabel(f)
		return l
	}
	l.Label, _, l.Err = volume.ReadLabel(f, l.Size)
	t, err := volume.ReadTrailer(f, l.Size)
	l.Sealed = err == nil
	if l.Err != nil && err == nil {
		if again, err := volume.ReadLabelAgain(f, t); err == nil {
			l.Label, l.Err = again, nil
		}
	}
	return l
}

// FirstLabel reads the label at the start of a stream.
func FirstLabel(r io.Reader) (volume.Label, error) {
	l, _, err := readLabelFrom(r)
	return l, err
}

// readLabelFrom reads a label and returns its length. Nothing beyond it is taken from the stream.
func readLabelFrom(r io.Reader) (volume.Label, int, error) {
	head := make([]byte, 4096)
	if _, err := io.ReadFull(r, head); err != nil {
		return volume.Label{}, 0, fmt.Errorf("label: %w", tornAt(err))
	}
	l, n, err := volume.ParseLabel(head)
	for size := 2 * len(head); errors.Is(err, volume.ErrTorn) && size <= volume.MaxLabel; size += 4096 {
		rest := make([]byte, 4096)
		if _, rerr := io.ReadFull(r, rest); rerr != nil {
			return l, 0, fmt.Errorf("label: %w", tornAt(rerr))
		}
		head = append(head, rest...)
		l, n, err = volume.ParseLabel(head)
	}
	return l, n, err
}

// tornAt is volume.ErrTorn for the end of a stream; other errors are themselves.
func tornAt(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return volume.ErrTorn
	}
	return err
}

// KeysOf is what a label holds of keys.
func KeysOf(s *volume.Set) seal.SetKeys {
	return seal.SetKeys{ID: s.ID, Slots: s.KeySlots, Bundle: s.Bundle, Keys: s.SetKeys}
}

// ReadHead opens the keys of a volume and reads the head of its set, which follows the label.
func ReadHead(ctx context.Context, path string, stdin io.Reader, unlock seal.Unlocker) (*Head, error) {
	r := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	l, _, err := readLabelFrom(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if l.Set == nil {
		return nil, fmt.Errorf("%s: %w", path, ErrNoSet)
	}
	keys, err := unlockSet(ctx, KeysOf(l.Set), unlock)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	h, err := headFrom(r, l.Volume, keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// headFrom reads frames until the head comes: it is the first.
func headFrom(r io.Reader, id volume.ID, keys *seal.Bundle) (*Head, error) {
	aead, err := keys.VolumeAEAD(id)
	if err != nil {
		return nil, err
	}
	var frame bytes.Buffer
	for range 8 {
		frame.Reset()
		if _, err := io.CopyN(&frame, r, volume.HeaderSize); err != nil {
			return nil, fmt.Errorf("head of the set: %w", tornAt(err))
		}
		h, err := volume.ParseHeader(frame.Bytes(), id)
		if err != nil {
			return nil, fmt.Errorf("head of the set: %w", err)
		}
		if _, err := io.CopyN(&frame, r, int64(h.Length)); err != nil {
			return nil, fmt.Errorf("head of the set: %w", tornAt(err))
		}
		if h.Kind != volume.FrameSet {
			continue
		}
		_, plain, err := volume.OpenFrame(frame.Bytes(), id, aead)
		if err != nil {
			return nil, fmt.Errorf("head of the set: %w", err)
		}
		if TypeOf(plain) == RecordHead {
			return ParseHead(plain)
		}
	}
	return nil, fmt.Errorf("head of the set: %w", ErrRecord)
}

// SlotsOf describes what opens a set; it needs no secret.
func SlotsOf(s *volume.Set) []seal.Info { return seal.SetSlots(s.KeySlots) }
