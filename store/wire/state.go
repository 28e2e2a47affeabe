package wire

import "time"

// Snapshot is what the facts say of one snapshot.
type Snapshot struct {
	ID            [32]byte
	Slot          uint32
	DatasetNumber uint32
	Dataset       string
	Name          string
	Start         time.Time
	Committed     time.Time
	Tags          []string
	HeldUntil     time.Time
	HeldForever   bool
	Forgotten     bool
	Partial       bool
	Damaged       string
	Summary       []byte
}

// snapshotSize is the least a Snapshot takes.
const snapshotSize = 32 + 2*4 + 3*12 + 3 + 5*4

func (m *Snapshot) code(c *coder) {
	c.array32(&m.ID)
	c.u32(&m.Slot)
	c.u32(&m.DatasetNumber)
	c.string(&m.Dataset)
	c.string(&m.Name)
	c.time(&m.Start)
	c.time(&m.Committed)
	c.strings(&m.Tags)
	c.time(&m.HeldUntil)
	c.bool(&m.HeldForever)
	c.bool(&m.Forgotten)
	c.bool(&m.Partial)
	c.string(&m.Damaged)
	c.bytes(&m.Summary)
}

// Dataset is what the facts say of one dataset.
type Dataset struct {
	Number uint32
	Name   string
}

// StatePart is a piece of the fold of the facts: what is in its lists is appended to those of the parts before.
type StatePart struct {
	Seq       uint64
	Head      [32]byte
	Snapshots []Snapshot
	Datasets  []Dataset

	HoldTime   time.Time
	Clock      time.Time
	AppendOnly bool
	Refused    []Refusal
	Archives   [][]byte // as package store encodes them
}

// Refusal is an attempt to do what needs admin rights without them.
type Refusal struct {
	What, Job string
	Time      time.Time
	Attempts  uint64
}

func (m *StatePart) code(c *coder) {
	c.u64(&m.Seq)
	c.array32(&m.Head)
	list(c, &m.Snapshots, snapshotSize, func(s *Snapshot) { s.code(c) })
	list(c, &m.Datasets, 8, func(d *Dataset) {
		c.u32(&d.Number)
		c.string(&d.Name)
	})
	c.time(&m.HoldTime)
	c.time(&m.Clock)
	c.bool(&m.AppendOnly)
	list(c, &m.Refused, 28, func(r *Refusal) {
		c.string(&r.What)
		c.string(&r.Job)
		c.time(&r.Time)
		c.u64(&r.Attempts)
	})
	list(c, &m.Archives, 4, c.bytes)
}

// statePartSize is about how large the parts become that Split makes.
const statePartSize = 512 << 10

// Split calls emit with pieces of m that are fit to be sent, in order; one at least.
func (m *StatePart) Split(emit func(*StatePart) error) error {
	snapshots, datasets, refused, archives := m.Snapshots, m.Datasets, m.Refused, m.Archives
	for {
		part := &StatePart{
			Seq: m.Seq, Head: m.Head, HoldTime: m.HoldTime, Clock: m.Clock, AppendOnly: m.AppendOnly, Refused: refused,
		}
		refused = nil // there are never many
		n, size := 0, 0
		for ; n < len(datasets) && size < statePartSize; n++ {
			size += 8 + len(datasets[n].Name)
		}
		part.Datasets, datasets = datasets[:n], datasets[n:]
		n = 0
		for ; n < len(snapshots) && size < statePartSize; n++ {
			size += snapshots[n].size()
		}
		part.Snapshots, snapshots = snapshots[:n], snapshots[n:]
		n = 0
		for ; n < len(archives) && size < statePartSize; n++ {
			size += 4 + len(archives[n])
		}
		part.Archives, archives = archives[:n], archives[n:]
		if err := emit(part); err != nil {
			return err
		}
		if len(snapshots) == 0 && len(datasets) == 0 && len(archives) == 0 {
			return nil
		}
	}
}

func (m *Snapshot) size() int {
	n := snapshotSize + len(m.Dataset) + len(m.Name) + len(m.Damaged) + len(m.Summary)
	for _, t := range m.Tags {
		n += 4 + len(t)
	}
	return n
}

// Join appends the lists of part, the next that came.
func (m *StatePart) Join(part *StatePart) {
	m.Seq, m.Head = part.Seq, part.Head
	m.HoldTime, m.Clock, m.AppendOnly = part.HoldTime, part.Clock, part.AppendOnly
	m.Refused = append(m.Refused, part.Refused...)
	m.Snapshots = append(m.Snapshots, part.Snapshots...)
	m.Datasets = append(m.Datasets, part.Datasets...)
	m.Archives = append(m.Archives, part.Archives...)
}
