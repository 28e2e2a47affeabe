package store

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"snapfs/store/volume"
)

// volumesAtOnce is how many volumes are read at the same time, so that the disk is busy while the last frames of one are opened.
const volumesAtOnce = 2

// opener is what one goroutine needs to open frames.
type opener struct {
	stored []byte
	check  frameChecker
}

// volumes checks every volume by itself and against the index, several at a time: each is read front to back.
func (v *verifier) volumes(ctx context.Context) error {
	list := slices.DeleteFunc(v.e.volumeList(), func(s VolumeInfo) bool { return s.Missing })
	chosen := map[volume.ID]bool{}
	if v.o.Data {
		chosen = chooseVolumes(list, v.o.Percent)
	}
	v.p = VerifyProgress{Phase: "volumes", VolumesTotal: len(list), Findings: v.p.Findings}
	for _, s := range list {
		if chosen[s.ID] || !s.Sealed {
			v.p.BytesTotal += s.Size
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(volumesAtOnce)
	for _, s := range list {
		g.Go(func() error {
			if err := v.volume(ctx, s.ID, chosen[s.ID]); err != nil {
				return fmt.Errorf("volume %s: %w", s.ID, err)
			}
			return v.progress(func(p *VerifyProgress) { p.Volumes++ })
		})
	}
	return g.Wait()
}

// volume checks one. What shows while it is being removed is no finding.
func (v *verifier) volume(ctx context.Context, id volume.ID, data bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := v.checkOne(ctx, id, data)
	if !v.e.inUse(id) {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		v.add(Finding{Problem: ProblemMissing, Volume: id, Offset: -1, Text: "the volume is missing"})
		return nil
	}
	if err != nil {
		return err
	}
	v.e.recordDamage(c.damage)
	for _, f := range c.findings {
		v.add(f)
	}
	if len(c.findings) > 0 && !c.foreign() {
		v.mu.Lock()
		v.hurt = append(v.hurt, id)
		v.mu.Unlock()
	}
	v.mu.Lock()
	v.matched[id] = c.matched
	v.mu.Unlock()
	if data && c.state.sealed {
		v.e.noteVerified(id, c.begun)
	}
	return nil
}

// inUse reports whether a volume still counts.
func (e *engine) inUse(id volume.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.volumes.byID[id]
	return s != nil && !s.dropped
}

// volumeCheck is the check of one volume.
type volumeCheck struct {
	v       *verifier
	begun   time.Time
	state   volumeState // as it was when the check began
	need    int64       // bytes that facts say it must have
	writing bool        // by this process
	file    volume.File
	aead    cipher.AEAD

	mu       sync.Mutex // guards what follows while frames are opened
	trailer  volume.Trailer
	table    bool                     // the contents table is whole
	expected map[int64]*expectedFrame // by offset
	damage   damage
	findings []Finding
	matched  int64 // entries of the index that are right about this volume
}

// expectedFrame is a frame that must be there: by the contents table, or else by the index.
type expectedFrame struct {
	kind   volume.FrameKind
	stored uint32
	blobs  []volume.Blob
	whole  bool // it was found
}

// checkOne opens a volume and checks it. Errors are those that are not findings.
func (v *verifier) checkOne(ctx context.Context, id volume.ID, data bool) (*volumeCheck, error) {
	e := v.e
	c := &volumeCheck{v: v, begun: e.now(), damage: newDamage(), expected: map[int64]*expectedFrame{}}
	if err := c.begin(id); err != nil {
		return c, err
	}
	defer c.file.Close()
	c.label()
	if err := c.contents(); err != nil {
		return c, err
	}
	if !c.table {
		if err := c.fromIndex(); err != nil {
			return c, err
		}
	}
	if err := c.scan(ctx, data || !c.table); err != nil {
		return c, err
	}
	c.missingFrames()
	c.strangers()
	return c, c.index()
}

func (c *volumeCheck) begin(id volume.ID) (err error) {
	e := c.v.e
	e.commitMu.Lock()
	c.need = e.fold.volumes[id].length
	e.commitMu.Unlock()
	e.mu.Lock()
	if s := e.volumes.byID[id]; s != nil {
		c.state = *s
		if o := s.writer; o != nil && s.kind != volume.Journal { // what is being written beyond may not be whole yet
			c.state.size, c.state.sealed, c.writing = o.w.Synced(), false, true
		}
	}
	e.mu.Unlock()
	if c.aead, err = e.bundle.VolumeAEAD(id); err != nil {
		return err
	}
	c.file, err = e.files.Open(volumePath(e.dir, id))
	return err
}

func (c *volumeCheck) found(p Problem, offset, length int64, format string, args ...any) {
	c.findings = append(c.findings, Finding{Problem: p, Volume: c.state.id, Offset: offset, Length: length, Text: fmt.Sprintf(format, args...)})
}

// leastVolume is the length of the shortest label.
const leastVolume = 4096

// label checks both labels and the trailer.
func (c *volumeCheck) label() {
	if c.need == 0 && c.state.blobs == 0 && (c.state.size <= leastVolume || c.zeros()) {
		return // a crash came before the label was whole, or the power went before anything was synced: it never held anything
	}
	first, length, err := volume.ReadLabel(c.file, c.state.size)
	c.checkLabel(first, err, 0, int64(length))
	c.trailer, err = volume.ReadTrailer(c.file, c.state.size)
	if err == nil && c.trailer.Volume != c.state.id {
		err = fmt.Errorf("trailer of volume %s", c.trailer.Volume)
	}
	if err != nil {
		c.trailer = volume.Trailer{}
		if c.state.sealed || c.wasSealed() {
			c.found(ProblemTrailer, c.state.size-volume.TrailerSize, volume.TrailerSize, "%v", err)
		}
		return
	}
	again, err := volume.ReadLabelAgain(c.file, c.trailer)
	c.checkLabel(again, err, c.trailer.Label, 0)
}

// zeros reports whether a volume of which nothing is known has a length and nothing else.
func (c *volumeCheck) zeros() bool {
	if c.state.kind != 0 {
		return false
	}
	b := make([]byte, 64<<10)
	for at := int64(0); at < c.state.size; at += int64(len(b)) {
		n, err := c.file.ReadAt(b, at)
		if err != nil && err != io.EOF || len(bytes.Trim(b[:n], "\x00")) > 0 {
			return false
		}
	}
	return true
}

// wasSealed reports whether the parity that stands before a trailer is there and the trailer is not. If the volume just ends there, its
// writer may have been killed before it wrote that: no damage, but a repair completes it.
func (c *volumeCheck) wasSealed() bool {
	if c.writing {
		return false
	}
	report, err := volume.Check(c.file, c.state.size, volume.CheckOptions{Volume: c.state.id})
	return err == nil && slices.ContainsFunc(report.Damage, func(d volume.Damage) bool {
		return d.Part == volume.PartTrailer && (d.Length > 0 || c.v.o.Repair)
	})
}

func (c *volumeCheck) checkLabel(l volume.Label, err error, offset, length int64) {
	switch {
	case c.foreign(): // said once
	case err != nil:
		c.found(ProblemLabel, offset, length, "%v", err)
	case l.Store != c.v.e.storeID:
		c.found(ProblemForeign, offset, length, "the file is a volume of another store: %x", l.Store)
	case l.Volume != c.state.id:
		c.found(ProblemForeign, offset, length, "the file is volume %s under another name", l.Volume)
	}
}

// contents reads the contents table.
func (c *volumeCheck) contents() error {
	if c.trailer.Volume.IsZero() || c.foreign() {
		return nil
	}
	err := volume.ReadContents(c.file, c.trailer, c.aead, func(f volume.FrameInfo) error {
		c.expected[f.Offset] = &expectedFrame{kind: f.Kind, stored: f.Stored, blobs: slices.Clone(f.Blobs)}
		return nil
	})
	if errors.Is(err, volume.ErrNewerVersion) {
		return err
	}
	if err != nil {
		clear(c.expected)
		c.found(ProblemTable, c.trailer.Contents, c.trailer.Label-c.trailer.Contents, "%v", err)
	}
	c.table = err == nil
	return nil
}

// fromIndex lists the frames that the index knows, where there is no table.
func (c *volumeCheck) fromIndex() error {
	e := c.v.e
	add := func(id ID, p shortPlace) error {
		if p.volume != c.state.number || p.offset+int64(p.stored) > c.state.size {
			return nil
		}
		f := c.expected[p.offset]
		if f == nil {
			f = &expectedFrame{kind: volume.FrameBlobs, stored: p.stored}
			c.expected[p.offset] = f
		}
		f.blobs = append(f.blobs, volume.Blob{ID: id, Length: p.length})
		return nil
	}
	e.mu.Lock()
	for id, p := range e.pending {
		_ = add(id, p.place) // never fails
	}
	e.mu.Unlock()
	return e.eachPlace(add)
}

// scan goes through the frames, with their payloads if the volume is to be read as a whole.
func (c *volumeCheck) scan(ctx context.Context, payloads bool) error {
	var end int64
	var gaps []volume.Gap
	var err error
	if payloads {
		var work errgroup.Group // one reads, several open and hash
		work.SetLimit(runtime.GOMAXPROCS(0))
		end, gaps, err = volume.ScanPayloads(c.file, 0, c.state.size, c.state.id,
			func(offset int64, h volume.Header, stored []byte, damage error) error {
				o := c.v.openers.Get().(*opener)
				o.stored = append(o.stored[:0], stored...)
				work.Go(func() error {
					defer c.v.openers.Put(o)
					c.payload(o, offset, h, damage)
					return nil
				})
				return c.counted(ctx, int64(h.Stored()))
			})
		_ = work.Wait() // only for the end of it
	} else {
		end, gaps, err = volume.Scan(c.file, 0, c.state.size, c.state.id, func(offset int64, h volume.Header) error {
			c.header(offset, h)
			return c.counted(ctx, 0)
		})
	}
	if err != nil {
		return err
	}
	if !c.foreign() {
		c.gaps(gaps, end)
	}
	return nil
}

func (c *volumeCheck) counted(ctx context.Context, bytes int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.v.progress(func(p *VerifyProgress) {
		p.Frames++
		p.Bytes += bytes
	})
}

func (c *volumeCheck) foreign() bool {
	return slices.ContainsFunc(c.findings, func(f Finding) bool { return f.Problem == ProblemForeign })
}

// strangers: a file that is not what its name says, and that nothing needs under that name, costs nothing.
func (c *volumeCheck) strangers() {
	if c.need > 0 || len(c.expected) > 0 {
		return
	}
	for i := range c.findings {
		if f := &c.findings[i]; f.Problem == ProblemForeign {
			f.Healed = true
			f.Text += "; nothing needs it here"
		}
	}
}

// header compares a frame with what is expected at its place.
func (c *volumeCheck) header(offset int64, h volume.Header) {
	f := c.expected[offset]
	switch {
	case f != nil && (f.kind != h.Kind || f.stored != h.Stored()):
		c.found(ProblemTable, offset, int64(h.Stored()), "the contents table says frame of kind %d, %d bytes; found kind %d, %d bytes",
			f.kind, f.stored, h.Kind, h.Stored())
		f.whole = true
	case f != nil:
		f.whole = true
	case c.table && offset < c.trailer.Contents:
		c.found(ProblemTable, offset, int64(h.Stored()), "the contents table does not list the frame")
	}
}

// payload checks a whole frame as far as its kind allows.
func (c *volumeCheck) payload(o *opener, offset int64, h volume.Header, damage error) {
	var blobs []volume.Blob
	if damage == nil {
		blobs, damage = c.open(o, h)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if damage != nil {
		c.damaged(offset, h, damage)
		return
	}
	c.header(offset, h)
	if h.Kind != volume.FrameBlobs {
		return
	}
	if f := c.expected[offset]; f == nil || !c.table {
		c.expected[offset] = &expectedFrame{kind: h.Kind, stored: h.Stored(), blobs: blobs, whole: true}
	} else if !slices.Equal(f.blobs, blobs) {
		c.found(ProblemTable, offset, int64(h.Stored()), "the contents table lists other blobs than the frame holds")
	}
	if c.v.e.isDamaged(c.state.id, offset) {
		c.v.e.forgetDamage(func(k frameKey) bool { return k == frameKey{c.state.id, offset} })
	}
}

func (e *engine) isDamaged(id volume.ID, offset int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.damage.has(id, offset)
}

// open opens a sealed frame; the contents table is opened when it is read.
func (c *volumeCheck) open(o *opener, h volume.Header) ([]volume.Blob, error) {
	if h.Kind != volume.FrameBlobs && h.Kind != volume.FrameFacts {
		return nil, nil
	}
	_, plain, err := volume.OpenFrame(o.stored, c.state.id, c.aead)
	if err != nil {
		return nil, err
	}
	return o.check.pack(plain)
}

// damaged notes a frame whose header is whole and whose payload is not.
func (c *volumeCheck) damaged(offset int64, h volume.Header, err error) {
	var why *frameError
	if errors.As(err, &why) {
		err = why.err
	}
	f := c.expected[offset]
	switch {
	case h.Kind == volume.FrameParity:
		c.found(ProblemParity, offset, int64(h.Stored()), "parity: %v", err)
		if f != nil {
			f.whole = true
		}
	case h.Kind == volume.FrameLabel || h.Kind == volume.FrameContents: // met when they were read
	case f != nil && h.Kind == volume.FrameBlobs:
		f.whole = true
		c.lose(offset, f, err.Error())
	case f != nil:
		f.whole = true
		c.found(ProblemFrame, offset, int64(h.Stored()), "%v", err)
	case offset < c.need || c.state.sealed:
		c.found(ProblemFrame, offset, int64(h.Stored()), "%v", err)
	} // else: what a crash left, and nothing refers to
}

// lose notes the blobs of a frame as damaged.
func (c *volumeCheck) lose(offset int64, f *expectedFrame, text string) {
	finding := Finding{Problem: ProblemFrame, Volume: c.state.id, Offset: offset, Length: int64(f.stored), Text: text}
	ids := make([]ID, len(f.blobs))
	for i, b := range f.blobs {
		ids[i] = b.ID
		finding.Blobs = append(finding.Blobs, VerifiedBlob{Kind(b.Kind), b.ID})
	}
	c.damage.frames[frameKey{c.state.id, offset}] = ids
	c.findings = append(c.findings, finding)
}

// missingFrames notes the frames that should be there and were not found.
func (c *volumeCheck) missingFrames() {
	for _, offset := range slices.Sorted(maps.Keys(c.expected)) {
		f := c.expected[offset]
		switch {
		case f.whole:
		case f.kind == volume.FrameBlobs:
			c.lose(offset, f, "there is no frame")
		case f.kind == volume.FrameParity:
			c.found(ProblemParity, offset, int64(f.stored), "parity: there is no frame")
		default:
			c.found(ProblemFrame, offset, int64(f.stored), "there is no frame")
		}
	}
}

// gaps notes bytes that belong to no frame where no frame is missed, and bytes behind the last one.
func (c *volumeCheck) gaps(gaps []volume.Gap, end int64) {
	for _, g := range gaps {
		if !c.explained(g.Offset, g.Offset+max(g.Length, 1)) && (g.Offset < c.need || c.state.sealed) {
			c.found(ProblemGap, g.Offset, g.Length, "%d bytes belong to no frame, %d frames are lost", g.Length, max(g.Missing, 0))
		}
	}
	if whole := c.trailer.Size; whole == 0 && end < c.need && !c.explained(end, c.state.size) {
		c.found(ProblemGap, end, c.state.size-end, "%d bytes at the end belong to no frame", c.state.size-end)
	}
}

// explained reports whether a frame is missed there, or something else there has been found damaged.
func (c *volumeCheck) explained(from, to int64) bool {
	for offset, f := range c.expected {
		if !f.whole && offset >= from && offset < to {
			return true
		}
	}
	return slices.ContainsFunc(c.findings, func(f Finding) bool {
		return f.Offset >= from && f.Offset < to || f.Offset < from && f.Offset+f.Length > from
	})
}
