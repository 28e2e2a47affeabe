package wire

// Prune asks for space to be given back.
type Prune struct {
	MaxWaste   uint64 // per cent, the bits of a float64
	MaxRewrite int64
	DryRun     bool
	Forget     [][32]byte
}

func (m *Prune) code(c *coder) {
	c.u64(&m.MaxWaste)
	c.i64(&m.MaxRewrite)
	c.bool(&m.DryRun)
	c.ids(&m.Forget)
}

// PruneProgress tells how far a prune is.
type PruneProgress struct {
	Phase                     string
	Done, Total, Blobs, Bytes int64
}

func (m *PruneProgress) code(c *coder) {
	c.string(&m.Phase)
	for _, v := range []*int64{&m.Done, &m.Total, &m.Blobs, &m.Bytes} {
		c.i64(v)
	}
}

// PrunedVolume is a volume that is gone.
type PrunedVolume struct {
	ID   [16]byte
	Kind uint8
	Size int64
}

func (m *PrunedVolume) code(c *coder) {
	c.array16(&m.ID)
	c.u8(&m.Kind)
	c.i64(&m.Size)
}

// PruneDamage is a frame that could not be moved.
type PruneDamage struct {
	Volume [16]byte
	Offset int64
	Blob   [32]byte
	Cause  string
}

func (m *PruneDamage) code(c *coder) {
	c.array16(&m.Volume)
	c.i64(&m.Offset)
	c.array32(&m.Blob)
	c.string(&m.Cause)
}

// PruneResult says what a prune has done.
type PruneResult struct {
	Removed, Rewritten                []PrunedVolume
	BytesFreed, Bytes, Waste, Missing int64
	Purged                            int
	Damaged                           []PruneDamage
}

func (m *PruneResult) code(c *coder) {
	list(c, &m.Removed, 25, func(v *PrunedVolume) { v.code(c) })
	list(c, &m.Rewritten, 25, func(v *PrunedVolume) { v.code(c) })
	for _, v := range []*int64{&m.BytesFreed, &m.Bytes, &m.Waste, &m.Missing} {
		c.i64(v)
	}
	c.int(&m.Purged)
	list(c, &m.Damaged, 60, func(d *PruneDamage) { d.code(c) })
}
