package wire

import (
	"math"
	"time"
)

// VerifyOptions asks for a verification.
type VerifyOptions struct {
	Data    bool
	Percent float64
	Head    [32]byte
	Repair  bool
}

func (m *VerifyOptions) code(c *coder) {
	c.bool(&m.Data)
	bits := math.Float64bits(m.Percent)
	c.u64(&bits)
	m.Percent = math.Float64frombits(bits)
	c.array32(&m.Head)
	c.bool(&m.Repair)
}

// VerifyEvent is progress of a verification, or a finding.
type VerifyEvent struct {
	Begin    bool
	Progress VerifyProgress
	Findings []Finding // one or none
}

// VerifyProgress tells how far a verification is.
type VerifyProgress struct {
	Phase                               string
	Volumes, VolumesTotal               int
	Frames, Bytes, BytesTotal, Findings int64
}

// Finding is something that is not as it should be.
type Finding struct {
	Problem string
	Volume  [16]byte
	Offset  int64
	Length  int64
	Blobs   []FoundBlob
	Text    string
	Healed  bool
}

// FoundBlob is a blob that a Finding concerns.
type FoundBlob struct {
	Kind uint8
	ID   [32]byte
}

func (m *VerifyEvent) code(c *coder) {
	c.bool(&m.Begin)
	c.string(&m.Progress.Phase)
	c.int(&m.Progress.Volumes)
	c.int(&m.Progress.VolumesTotal)
	for _, v := range []*int64{&m.Progress.Frames, &m.Progress.Bytes, &m.Progress.BytesTotal, &m.Progress.Findings} {
		c.i64(v)
	}
	list(c, &m.Findings, 45, func(f *Finding) { f.code(c) })
}

func (m *Finding) code(c *coder) {
	c.string(&m.Problem)
	c.array16(&m.Volume)
	c.i64(&m.Offset)
	c.i64(&m.Length)
	list(c, &m.Blobs, 33, func(b *FoundBlob) {
		c.u8(&b.Kind)
		c.array32(&b.ID)
	})
	c.string(&m.Text)
	c.bool(&m.Healed)
}

// VerifySummary is the result of a verification.
type VerifySummary struct {
	Volumes, Snapshots                     int
	Nodes, Frames, Bytes, Findings, Healed int64
}

func (m *VerifySummary) code(c *coder) {
	c.int(&m.Volumes)
	c.int(&m.Snapshots)
	for _, v := range []*int64{&m.Nodes, &m.Frames, &m.Bytes, &m.Findings, &m.Healed} {
		c.i64(v)
	}
}

// Volumes lists the volumes of a store.
type Volumes struct{ Volumes []Volume }

// Volume describes one.
type Volume struct {
	ID       [16]byte
	Kind     uint8
	Size     int64
	Blobs    int64
	Sealed   bool
	Missing  bool
	Damaged  int
	Verified time.Time
}

func (m *Volumes) code(c *coder) {
	list(c, &m.Volumes, 55, func(v *Volume) {
		c.array16(&v.ID)
		c.u8(&v.Kind)
		c.i64(&v.Size)
		c.i64(&v.Blobs)
		c.bool(&v.Sealed)
		c.bool(&v.Missing)
		c.int(&v.Damaged)
		c.time(&v.Verified)
	})
}
