package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"snapfs/store"
	"snapfs/store/volume"
)

// CheckOptions say how volumes are checked.
type CheckOptions struct {
	OpenOptions      // Resolve is not looked at
	NoKey       bool // sums, numbers and labels alone; nothing is asked
	Progress    func(CheckProgress)
	Found       func(Finding)
}

// CheckProgress tells how far a check is.
type CheckProgress struct {
	Bytes, Total int64  // Total is 0 if volumes come through pipes
	Current      string // volume
}

// Finding is something that is not as it should be.
type Finding struct {
	Volume string // where it was found, and what its label says
	ID     volume.ID
	Offset int64 // in the volume, as it lies there; -1: it is about all of it, or about the set
	Length int64
	Set    string
	Blob   store.ID // zero: not about one
	What   string   // whole sentence fragment, for people
	Heals  bool     // parity of the volume restores it
	Hits   []Hit    // what needs what was found, with a key

	tail     bool // it only says that the trailer is lacking
	unlisted int  // so many more that are like this one
}

// Hit is a path that needs something damaged or missing.
type Hit struct {
	Ref       string     // DATASET@NAME of the newest snapshot where it does
	Path      string     // "/" stands for all of a snapshot
	Snapshots []store.ID // all of them
}

// CheckedSet is what is known of a set after a check.
type CheckedSet struct {
	ID       [16]byte
	Name     string
	Level    volume.SetLevel
	Volumes  int  // that were read, without those of parity
	Complete bool // its end was read, and all volumes it names
	Whole    bool // and nothing was found in any of them, and all its snapshots need is in it, but for chunks of parents
	Damaged  bool // something in it is, beyond what the volumes' own parity restores
	Parents  bool // a part of its chunks is in other sets, which were not all given
	// Tails has the lengths of volumes without a trailer, in which nothing else was found: damage, unless their media ended there. The volume behind
	// says that; it was not given.
	Tails map[volume.ID]int64
}

// Cut reports whether a volume is shorter than what is known of it, or has lost its trailer.
func (s *CheckedSet) Cut(known *store.ArchiveSet) bool {
	for id, length := range s.Tails {
		if !slices.ContainsFunc(known.Volumes, func(v store.ArchiveVolume) bool { return v.ID == id && v.Torn && v.Size <= length }) {
			return true
		}
	}
	return false
}

// CheckResult is a finished check.
type CheckResult struct {
	Volumes  int
	Frames   int64
	Blobs    int64 // whose names were computed from what they hold
	Bytes    int64
	Findings int64
	Sets     []CheckedSet
	Strays   []Stray
}

// Stray is a volume that is damaged beyond what its parity restores, and does not say any more which set it is of.
type Stray struct {
	ID    volume.ID // zero: nothing in it can be recognised
	Where string
}

// Of reports whether it is a volume of a set that is known.
func (s Stray) Of(set *store.ArchiveSet) bool {
	return slices.ContainsFunc(set.Volumes, func(v store.ArchiveVolume) bool { return v.ID == s.ID || s.ID.IsZero() && v.Where == s.Where })
}

// Check reads volumes from end to end, in whatever order they come, and reports what is not what was written. Without a key it
// verifies the sums of all frames; with one every frame is opened, each blob named anew, and the sets are checked to be complete.
func Check(ctx context.Context, args []string, o CheckOptions) (*CheckResult, error) {
	c := newChecker(o)
	defer c.b.Close()
	var err error
	if c.b.inputs, err = openInputs(args, o.Stdin); err != nil {
		return nil, err
	}
	watchPipes(c.b.inputs, func(in *input, err error) {
		c.found(Finding{Volume: in.name, Offset: -1, What: "what comes behind cannot be read: " + err.Error()})
	})
	for _, in := range c.b.inputs {
		if in.pipe == nil {
			c.total += in.size
		} else {
			c.total, c.pipes = 0, true
		}
	}
	for _, in := range c.b.inputs {
		if err := c.input(ctx, in); err != nil {
			return nil, err
		}
	}
	return c.finish(ctx)
}

// checker is one Check.
type checker struct {
	o      CheckOptions
	b      *Bare
	sets   map[[16]byte]*checkedSet
	torn   map[volume.ID]int64 // volumes whose medium ended, and how many bytes of them count
	result CheckResult
	total  int64
	pipes  bool

	seen     map[volume.ID]string
	findings []Finding
	blobsOf  map[int][]store.ID // of findings by number: what the contents table has there
	from     int                // the first finding of volume
	file     *Volume            // that is read; nil: a pipe
	volume   *Volume
	set      *checkedSet // of volume; nil: no key
	ahead    []*checkedFrame
	held     int // bytes of them
	unused   []*checkedFrame
}

func newChecker(o CheckOptions) *checker {
	o.Resolve = nil
	if o.Note == nil {
		o.Note = func(string) {}
	}
	return &checker{
		o: o, b: &Bare{o: o.OpenOptions, keys: keyring{unlock: o.Unlock}},
		sets: map[[16]byte]*checkedSet{}, blobsOf: map[int][]store.ID{}, torn: map[volume.ID]int64{},
	}
}

// checkedSet collects what a set holds.
type checkedSet struct {
	label    *volume.Label
	given    map[volume.ID]uint32 // numbers of volumes, without those of parity
	damaged  bool
	beyond   bool // what parity heals
	tails    map[volume.ID]int64
	metadata idList // that is in it
	chunks   idList
	needs    idList // metadata
	uses     idList // chunks
}

// idList is a list of IDs by their first bytes; those that come again are dropped now and then.
type idList struct {
	keys   []uint64
	sorted int
}

func (l *idList) add(id store.ID) {
	if l.keys = append(l.keys, keyOf(id)); len(l.keys) > 2*l.sorted+1<<16 {
		l.sort()
	}
}

func (l *idList) sort() {
	slices.Sort(l.keys)
	l.keys = slices.Compact(l.keys)
	l.sorted = len(l.keys)
}

// lacks counts the IDs that are in none of others, which are sorted.
func (l *idList) lacks(others ...*idList) (n int) {
	l.sort()
	for _, k := range l.keys {
		found := false
		for _, o := range others {
			if _, ok := slices.BinarySearch(o.keys, k); ok {
				found = true
				break
			}
		}
		if !found {
			n++
		}
	}
	return n
}

// input checks what an argument names.
func (c *checker) input(ctx context.Context, in *input) error {
	if in.pipe != nil {
		c.file = nil
		return c.stream(ctx, in.name, in.pipe)
	}
	list, err := findVolumes(in, c.o.Scratch)
	if errors.Is(err, ErrNoVolume) {
		c.found(Finding{Volume: in.name, Offset: -1, Length: in.size, What: "no volume can be recognised in it"})
		if !c.o.NoKey {
			c.result.Strays = append(c.result.Strays, Stray{Where: (&Volume{Name: in.name}).where()})
		}
		return nil
	}
	if err != nil {
		return err
	}
	for _, v := range list {
		before := len(c.findings)
		c.volume, c.file = v, v
		if err := c.stream(ctx, v.Name, &patient{r: v.found, end: v.length}); err != nil {
			return err
		}
		if len(c.findings) > before {
			c.heals(v, c.findings[before:])
		}
		if err := v.close(); err != nil {
			return err
		}
	}
	return nil
}

// heals says which findings parity would put right.
func (c *checker) heals(v *Volume, list []Finding) {
	if v.heal(c.o.Scratch) != nil {
		return
	}
	for i := range list {
		list[i].Heals = v.healed != nil && v.report.Copy.Whole() && v.report.Copy.Sealed
	}
}

// stream checks volumes that come one after another.
func (c *checker) stream(ctx context.Context, name string, r io.Reader) error {
	s := volume.NewStream(r)
	c.volume, c.set = nil, nil
	start := c.result.Bytes
	defer c.settleAll()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		it, err := s.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			c.result.Bytes = start + it.Offset + int64(len(it.Stored))
			err = c.item(ctx, name, it)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if c.o.Progress != nil {
			c.o.Progress(CheckProgress{c.result.Bytes, c.total, name})
		}
	}
}

func (c *checker) item(ctx context.Context, name string, it volume.StreamItem) error {
	if it.Kind != volume.StreamFrame || it.Damage != nil {
		c.settleAll() // so that findings come in the order of the volume
	}
	switch it.Kind {
	case volume.StreamLabel:
		return c.begin(ctx, name, it)
	case volume.StreamGap:
		c.gap(it)
	case volume.StreamEnd:
		if it.Trailer.Size == 0 {
			c.found(Finding{Offset: it.At, tail: true, What: "it ends without its trailer: never finished, cut short, or damaged at its end"})
		}
	case volume.StreamFrame:
		c.result.Frames++
		if it.Damage != nil {
			c.found(Finding{Offset: it.At, Length: int64(it.Header.Stored()), What: "a frame is damaged: " + it.Damage.Error()})
			return nil
		}
		c.frame(it)
	}
	return nil
}

func (c *checker) gap(it volume.StreamItem) {
	what := fmt.Sprintf("%d bytes belong to nothing", it.Length)
	switch {
	case it.Missing > 0:
		what = fmt.Sprintf("%d frames are missing", it.Missing)
	case it.Missing < 0:
		what = "frames come twice"
	}
	c.found(Finding{Offset: it.At, Length: it.Length, What: what})
}

// found notes a finding about the volume at hand.
func (c *checker) found(f Finding) {
	if v := c.volume; v != nil && f.Volume == "" {
		f.Volume, f.ID = v.String(), v.ID
		if v.Label != nil {
			f.Set = v.Label.Set.Name
		}
	}
	c.list(f)
}

// findingsMost is how many findings are listed one by one. A volume may be made of nothing else.
const findingsMost = 20_000

// list appends a finding; behind the most there is one for each volume, which counts.
func (c *checker) list(f Finding) {
	n := len(c.findings)
	if n < findingsMost {
		c.findings = append(c.findings, f)
		return
	}
	if last := &c.findings[n-1]; last.unlisted > 0 && last.Volume == f.Volume {
		last.unlisted++
		return
	}
	c.findings = append(c.findings, Finding{Volume: f.Volume, ID: f.ID, Set: f.Set, Offset: -1, unlisted: 1})
}

// begin begins a volume.
func (c *checker) begin(ctx context.Context, name string, it volume.StreamItem) error {
	v := &Volume{Name: name, ID: it.Volume, Label: it.Label}
	c.volume, c.set, c.from = v, nil, len(c.findings)
	if v.Label == nil {
		c.found(Finding{Offset: 0, What: "its label is damaged"})
		return c.nameless(v)
	}
	if v.Label.Kind != volume.Archive || v.Label.Set == nil {
		return fmt.Errorf("volume %s of kind %s of store %x: %w", v.ID, v.Label.Kind, v.Label.Store, ErrNoVolume)
	}
	if c.seen == nil {
		c.seen = map[volume.ID]string{}
	}
	if where, twice := c.seen[v.ID]; twice {
		c.o.Note(fmt.Sprintf("%s comes again, it was in %s", v, where))
	}
	c.seen[v.ID] = name
	c.result.Volumes++
	set := c.sets[v.Label.Set.ID]
	if set == nil {
		set = &checkedSet{label: v.Label, given: map[volume.ID]uint32{}, tails: map[volume.ID]int64{}}
		c.sets[v.Label.Set.ID] = set
	}
	if !v.Parity() {
		set.given[v.ID] = v.Label.Set.Sequence
	}
	if c.o.NoKey {
		return nil
	}
	s, err := c.b.set(ctx, v.Label)
	if err != nil {
		return err
	}
	v.set, c.set = s, set
	if c.file != nil {
		v.source, v.found, v.Size, v.length = c.file.found, c.file.found, c.file.length, c.file.length
	}
	s.volumes = append(s.volumes, v)
	c.b.number(v)
	return nil
}

// nameless takes a volume without a label for one of a set that is known.
func (c *checker) nameless(v *Volume) error {
	c.result.Volumes++
	return nil
}

// frame checks what a whole frame holds.
func (c *checker) frame(it volume.StreamItem) {
	v := c.volume
	if c.set == nil || v.set == nil || v.ID != it.Volume || !it.Header.Kind.Sealed() || !it.Header.Kind.Known() {
		return
	}
	f := c.newFrame(it)
	switch it.Header.Kind {
	case volume.FrameBlobs:
		c.begun(f)
		return
	case volume.FrameSet, volume.FrameContents:
		c.settleAll()
	}
	plain, ok := f.plain()
	c.settle(f)
	switch {
	case !ok:
	case it.Header.Kind == volume.FrameSet:
		c.record(v.set, plain)
	case it.Header.Kind == volume.FrameContents:
		c.contents(plain)
	}
}

func (c *checker) record(s *openSet, plain []byte) {
	s.take(plain)
	if TypeOf(plain) == RecordTable {
		if t, err := ParseTable(plain); err == nil {
			c.torn[t.Volume] = t.Whole
		}
	}
}

// finish looks at the sets, now that everything was read.
func (c *checker) finish(ctx context.Context) (*CheckResult, error) {
	c.dropTorn()
	for id, set := range c.sets {
		c.dropFormer(id, set)
	}
	for i := range c.findings {
		f := &c.findings[i]
		for _, set := range c.sets {
			if _, of := set.given[f.ID]; !of {
				continue
			}
			set.damaged = true
			if f.tail && !f.Heals {
				set.tails[f.ID] = f.Offset
			} else {
				set.beyond = set.beyond || !f.Heals
			}
		}
	}
	if !c.o.NoKey {
		c.findStrays()
	}
	for id, set := range c.sets {
		c.result.Sets = append(c.result.Sets, c.checkSet(id, set))
	}
	if err := c.findHits(ctx); err != nil {
		return nil, err
	}
	for _, f := range c.findings {
		c.result.Findings++
		if f.unlisted > 0 {
			f.What = fmt.Sprintf("%d more findings in it are not listed", f.unlisted)
			c.result.Findings += int64(f.unlisted) - 1
		}
		if c.o.Found != nil {
			c.o.Found(f)
		}
	}
	slices.SortFunc(c.result.Sets, func(a, b CheckedSet) int { return c.sets[a.ID].label.Created.Compare(c.sets[b.ID].label.Created) })
	if c.result.Volumes == 0 && c.result.Findings == 0 {
		return nil, ErrNoVolume
	}
	return &c.result, nil
}

// findStrays lists the volumes without labels that parity does not restore.
func (c *checker) findStrays() {
	for _, f := range c.findings {
		if _, labelled := c.seen[f.ID]; labelled || f.ID.IsZero() || f.Heals {
			continue
		}
		if !slices.ContainsFunc(c.result.Strays, func(s Stray) bool { return s.ID == f.ID }) {
			c.result.Strays = append(c.result.Strays, Stray{ID: f.ID})
		}
	}
}

func (c *checker) report(f Finding) { c.findings = append(c.findings, f) }

// dropTorn drops what was found behind the last whole frame of volumes whose medium ended: those frames came again.
func (c *checker) dropTorn() {
	var findings []Finding
	blobsOf := map[int][]store.ID{} // made anew: further findings will have the numbers that become free
	for i, f := range c.findings {
		if whole, torn := c.torn[f.ID]; torn && f.Offset >= whole {
			continue
		}
		if list := c.blobsOf[i]; list != nil {
			blobsOf[len(findings)] = list
		}
		findings = append(findings, f)
	}
	c.findings, c.blobsOf = findings, blobsOf
}

// checkSet finds out whether a set is complete, and holds what its snapshots need.
func (c *checker) checkSet(id [16]byte, set *checkedSet) CheckedSet {
	r := CheckedSet{ID: id, Name: set.label.Set.Name, Level: set.label.Set.Level, Volumes: len(set.given)}
	s := c.b.setByID(id)
	last := uint32(0)
	if s != nil && s.end != nil {
		for _, v := range s.end.Volumes {
			last = max(last, v.Number)
		}
	}
	missing := gapsIn(slices.Collect(maps.Values(set.given)), last)
	for _, g := range missing {
		c.report(Finding{Set: r.Name, Offset: -1, What: g.text(r.Name, "was not given", "were not given")})
	}
	if s == nil {
		return r // without a key nobody can tell
	}
	r.Complete = s.end != nil && len(missing) == 0
	if s.end == nil {
		c.report(Finding{Set: r.Name, Offset: -1, What: fmt.Sprintf("the end of set %s was not given: it was never finished, or its last volume is missing or damaged", r.Name)})
	}
	r.Damaged, r.Tails = set.beyond, set.tails
	r.Whole = r.Complete && !set.damaged && c.holdsAll(s, set, &r, len(missing) > 0)
	return r
}

// dropFormer takes volumes that were written again under another id for what they are: neither do they stand for those, nor is the set damaged
// where they are.
func (c *checker) dropFormer(id [16]byte, set *checkedSet) {
	s := c.b.setByID(id)
	if s == nil || s.end == nil {
		return
	}
	for _, v := range s.end.Volumes {
		for former, number := range set.given {
			if number == v.Number && former != v.ID {
				c.o.Note(fmt.Sprintf("%s: volume %d of set %s was begun again after this one: volume %s is what belongs to the set",
					c.seen[former], number, set.label.Set.Name, v.ID))
				delete(set.given, former)
			}
		}
	}
}

// holdsAll reports whether all that a set's snapshots need is there: metadata in the set itself, chunks in it or in its parents.
func (c *checker) holdsAll(s *openSet, set *checkedSet, r *CheckedSet, missing bool) bool {
	set.metadata.sort()
	set.chunks.sort()
	if s.head != nil {
		for _, snap := range s.head.Snapshots {
			set.needs.add(snap.ID)
		}
	}
	ok := true
	if n := set.needs.lacks(&set.metadata); n > 0 && !set.damaged && !missing {
		c.report(Finding{Set: r.Name, Offset: -1, What: fmt.Sprintf("set %s lacks %d blobs of metadata that its snapshots need", r.Name, n)})
		ok = false
	}
	held := []*idList{&set.chunks}
	if s.head != nil {
		for _, p := range s.head.Chain {
			parent := c.sets[p.ID]
			if parent == nil {
				r.Parents = true
				continue
			}
			parent.chunks.sort()
			held = append(held, &parent.chunks)
		}
	}
	if n := set.uses.lacks(held...); n > 0 && !r.Parents && !set.damaged && !missing {
		c.report(Finding{Set: r.Name, Offset: -1, What: fmt.Sprintf("%d chunks that the snapshots of set %s need are neither in it nor in its parents", n, r.Name)})
		ok = false
	}
	return ok
}
