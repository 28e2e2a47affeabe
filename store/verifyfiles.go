package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"snapfs/store/volume"
)

// VerifyFiles checks what can be checked of the store in dir without a key: each volume's label, frames, their sums and numbers,
// parity and trailer. It only reads, also beside a process that holds the store. It cannot see whether facts or blobs are
// missing, forged, or wanted at all. Errors: ErrNoStore, ErrUnreachable.
func VerifyFiles(ctx context.Context, dir string, event func(VerifyEvent) error) (VerifySummary, error) {
	disk, err := onDisk(volumesDir(dir))
	if isNothing(err) {
		return VerifySummary{}, fmt.Errorf("%s: %w", dir, ErrNoStore)
	}
	if err != nil {
		return VerifySummary{}, unreachable(err)
	}
	f := &filesCheck{dir: dir, event: event}
	if c, err := readConfig(dir); err == nil {
		f.store, _ = hex.DecodeString(c.ID) // as far as it is known
	}
	f.p = VerifyProgress{Phase: "volumes", VolumesTotal: len(disk)}
	for _, size := range disk {
		f.p.BytesTotal += size
	}
	ids := slices.SortedFunc(maps.Keys(disk), func(a, b volume.ID) int { return compareBytes(a[:], b[:]) })
	return f.run(ctx, ids)
}

// filesCheck is a verification without a key.
type filesCheck struct {
	dir   string
	store []byte // ID that labels must have; nil if not known
	event func(VerifyEvent) error

	mu       sync.Mutex
	p        VerifyProgress
	findings map[volume.ID][]Finding
	told     time.Time
	stopped  error
}

func (f *filesCheck) run(ctx context.Context, ids []volume.ID) (VerifySummary, error) {
	f.findings = map[volume.ID][]Finding{}
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(volumesAtOnce)
	for _, id := range ids {
		g.Go(func() error {
			if err := f.volume(inner, id); err != nil && !errors.Is(err, fs.ErrNotExist) { // pruned meanwhile
				return fmt.Errorf("volume %s: %w", id, err)
			}
			return f.progress(inner, func(p *VerifyProgress) { p.Volumes++ })
		})
	}
	if err := g.Wait(); err != nil {
		return VerifySummary{}, err
	}
	sum := VerifySummary{Volumes: f.p.Volumes, Frames: f.p.Frames, Bytes: f.p.Bytes}
	for _, id := range ids {
		for _, found := range f.findings[id] {
			sum.Findings++
			if err := f.event(VerifyEvent{Progress: f.p, Finding: &found}); err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}

func (f *filesCheck) progress(ctx context.Context, change func(*VerifyProgress)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.p)
	if now := time.Now(); f.stopped == nil && now.Sub(f.told) >= verifyTick {
		f.told = now
		f.stopped = f.event(VerifyEvent{Progress: f.p})
	}
	if f.stopped != nil {
		return f.stopped
	}
	return ctx.Err()
}

// settling is how long what looks damaged at the end of a volume that is not sealed may be just being written.
const settling = 300 * time.Millisecond

// volume checks one. One that may be written at this moment counts as damaged only where it is so for a while.
func (f *filesCheck) volume(ctx context.Context, id volume.ID) error {
	found, sealed, err := f.look(ctx, id, true)
	if err != nil {
		return err
	}
	if len(found) > 0 && !sealed {
		pause(ctx, settling)
		again, _, err := f.look(ctx, id, false)
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(found, func(a Finding) bool {
			return !slices.ContainsFunc(again, func(b Finding) bool { return a.Problem == b.Problem && a.Offset == b.Offset })
		})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.findings[id] = found
	f.p.Findings += int64(len(found))
	return nil
}

// look reads a volume once.
func (f *filesCheck) look(ctx context.Context, id volume.ID, count bool) (found []Finding, sealed bool, err error) {
	file, err := os.Open(volumePath(f.dir, id))
	if err != nil {
		return nil, false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() <= leastVolume {
		return nil, false, err // a crash came before the label was whole, or the rest has been cut off: the key tells
	}
	report, err := volume.Check(file, info.Size(), volume.CheckOptions{
		Volume: id,
		Frame: func(_ int64, h volume.Header, _ []byte, _ error) error {
			return f.progress(ctx, func(p *VerifyProgress) {
				if count {
					p.Frames++
					p.Bytes += int64(h.Stored())
				}
			})
		},
	})
	if errors.Is(err, volume.ErrNotVolume) {
		return []Finding{{Problem: ProblemLabel, Volume: id, Length: info.Size(), Text: err.Error()}}, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if l := report.Label; !l.Volume.IsZero() && f.store != nil && !slices.Equal(l.Store[:], f.store) {
		found = append(found, Finding{Problem: ProblemForeign, Volume: id, Text: fmt.Sprintf("the file is a volume of another store: %x", l.Store)})
	}
	for _, d := range report.Damage {
		if report.Sealed || !leftByCrash(file, d) {
			found = append(found, Finding{Problem: problemOf(d), Volume: id, Offset: d.Offset, Length: d.Length, Text: d.Err.Error()})
		}
	}
	return found, report.Sealed, nil
}

// problemOf translates damage.
func problemOf(d volume.Damage) Problem {
	switch d.Part {
	case volume.PartLabel:
		return ProblemLabel
	case volume.PartTrailer:
		return ProblemTrailer
	case volume.PartParity:
		return ProblemParity
	case volume.PartFrame:
		if d.Frame.Kind == volume.FrameParity {
			return ProblemParity
		}
		return ProblemFrame
	}
	return ProblemGap
}

// leftByCrash reports whether damage in a volume that was never sealed may be what a crash left: a torn end, one without a trailer, or
// frames that were never written among others that were. Whether anything needed them only facts and index know.
func leftByCrash(file *os.File, d volume.Damage) bool {
	switch d.Part {
	case volume.PartTail:
		return true
	case volume.PartTrailer:
		return d.Length == 0
	case volume.PartGap:
		return zeros(file, d.Offset, d.Length)
	}
	return false
}

// zeros reports whether a stretch of a file was never written.
func zeros(file *os.File, offset, length int64) bool {
	buf := make([]byte, 64<<10)
	for length > 0 {
		n := int(min(length, int64(len(buf))))
		if _, err := file.ReadAt(buf[:n], offset); err != nil {
			return false
		}
		if slices.ContainsFunc(buf[:n], func(b byte) bool { return b != 0 }) {
			return false
		}
		offset, length = offset+int64(n), length-int64(n)
	}
	return true
}
