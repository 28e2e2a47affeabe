package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapfs/store/volume"
)

// CompactReport says what a compaction of the journal did.
type CompactReport struct {
	Written bool        // a checkpoint
	Facts   int         // that it replaces and the one before did not
	Dropped []volume.ID // journals
	Bytes   int64       // of these
}

// How many facts make a checkpoint worth its while: it repeats what the facts add up to.
const (
	leastFacts        = 192
	snapshotsPerFact  = 16       // the fold of many snapshots is written less often
	maxCheckpointSize = 48 << 20 // plaintext of one; a frame has room for 64 MiB
)

// compactJournal writes a checkpoint when it is due, or with force if there is any fact since the last one, and drops the
// journals that the checkpoint before this one replaced: so two of them, in different volumes, say what the state is. A chain
// with facts missing is left alone, so that what was lost or taken away stays visible; keepFacts saves what the index knows of it.
// Commits go on meanwhile. Callers hold maintenance. In an append-only store s needs admin rights.
func (e *engine) compactJournal(ctx context.Context, s *localSession, force bool) (CompactReport, error) {
	var report CompactReport
	if !e.canDrop(s) {
		return report, nil
	}
	c := &compaction{e: e, s: s}
	if !c.begin(force) {
		return report, nil
	}
	defer c.end()
	err := c.write(ctx)
	if errors.Is(err, errChainGap) || errors.Is(err, errTooManyFacts) { // nothing depends on it but the time it takes to read them
		e.log.Warn("the journal is not compacted", "err", err)
		return report, nil
	}
	return c.report, err
}

// errTooManyFacts: what they add up to has no room in a frame. At some 300 bytes for a snapshot that is so from about 150,000 on.
var errTooManyFacts = errors.New("too much for a checkpoint")

// errChainGap: facts that the chain has had are not there.
var errChainGap = errors.New("facts are missing from the chain")

// compaction is one compaction of the journal.
type compaction struct {
	e      *engine
	s      *localSession
	bridge bool          // although facts are missing
	lost   bool          // and nobody knows what they said: should they come back, they count
	anew   bool          // although the list of the checkpoint before cannot be read
	own    *localSession // pins the pages it writes
	report CompactReport

	journals []journal
	last     ID     // newest fact when it began
	seq      uint64 // its number
	base     checkpointBase
	onDisk   map[volume.ID]int64

	read []*journal
	news []ID // facts that the list lacks
	old  map[ID]bool
	root ID
}

// checkpointBase is the newest checkpoint.
type checkpointBase struct {
	seq   uint64 // 0: there is none
	list  factList
	count uint64 // of the list
}

// run compacts although no compaction is due.
func (c *compaction) run(ctx context.Context) error {
	if !c.begin(true) {
		return ErrClosed
	}
	defer c.end()
	return c.write(ctx)
}

func (c *compaction) write(ctx context.Context) error {
	if err := c.e.mayWrite(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{c.collect, c.writeList, c.checkpoint, c.drop} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	return nil
}

// begin decides whether a checkpoint is due and notes where the chain is.
func (c *compaction) begin(force bool) bool {
	e := c.e
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	since := e.fold.seq - e.fold.base.seq
	due := max(leastFacts, uint64(len(e.fold.snapshots)/snapshotsPerFact))
	if since < due && !(force && since > 1) && !c.bridge && !e.fold.apart || e.isClosed() {
		return false
	}
	c.journals, c.last, c.seq, c.base = e.journalsAt(), e.fold.last, e.fold.seq, e.fold.base
	if c.anew {
		c.base.list, c.base.count = factList{}, 0
	}
	e.appended = &[]ID{}
	c.own = e.newSession("compaction of the journal")
	return true
}

func (c *compaction) end() {
	c.e.commitMu.Lock()
	c.e.appended = nil
	c.e.commitMu.Unlock()
	_ = c.own.Close() // a session in this process has nothing that could fail
}

// collect reads the journals and finds the facts that the list of the checkpoint before lacks.
func (c *compaction) collect(ctx context.Context) (err error) {
	if c.onDisk, err = onDisk(volumesDir(c.e.dir)); err != nil {
		return err
	}
	c.e.commitMu.Lock()
	err = c.fits(c.e.fold.withoutGone(c.onDisk).checkpoint())
	c.e.commitMu.Unlock()
	if err != nil { // before pages are written for it
		return err
	}
	var facts []journalFact
	if c.read, facts, err = c.e.readJournals(ctx, c.journals); err != nil {
		return err
	}
	if err := c.whole(facts); err != nil && !c.bridge {
		return err
	}
	behind := map[ID]bool{}
	for _, f := range facts {
		if f.Seq < c.base.seq {
			behind[f.id] = true
		}
	}
	get, done := c.e.pageReader(c.own)
	defer func() { err = errors.Join(err, done()) }()
	if c.old, err = c.base.list.contains(ctx, get, behind); err != nil {
		return err
	}
	c.news = c.bridged(facts)
	return nil
}

// whole makes sure that every fact since the checkpoint is there, one leading to the other.
func (c *compaction) whole(facts []journalFact) error {
	byID := make(map[ID]*Fact, len(facts))
	for _, f := range facts {
		byID[f.id] = f.Fact
	}
	for id, seq := c.last, c.seq; seq > 0 && seq >= c.base.seq; seq-- {
		f := byID[id]
		if f == nil || f.Seq != seq {
			return fmt.Errorf("%w: fact %d", errChainGap, seq)
		}
		id = f.Prev
	}
	return nil
}

// writeList stores the pages of the longer list. They are not yet named by anything: a crash leaves what a prune removes.
func (c *compaction) writeList(ctx context.Context) (err error) {
	get, done := c.e.pageReader(c.own)
	defer func() { err = errors.Join(err, done()) }()
	w := &Writer{
		session: c.own, keys: c.e.idKeys, flight: &inFlight{ids: map[ID]struct{}{}}, damaged: &damagedFrames{},
		packer: volume.NewPacker(volume.LevelNone), // keyed hashes do not compress
	}
	list := &factListWriter{put: func(page []byte) (ID, error) { return w.Put(ctx, KindNode, page) }}
	if err := list.open(ctx, get, c.base.list.root); err != nil {
		return err
	}
	for _, id := range slices.Concat(c.base.list.tail, c.news) {
		if err := list.add(0, id); err != nil {
			return err
		}
	}
	if c.root, err = list.finish(); err != nil {
		return err
	}
	if err := w.Flush(ctx); err != nil {
		return err
	}
	return c.e.syncVolumes()
}

// fits refuses records that are too large for a frame.
func (c *compaction) fits(records []byte) error {
	if len(records) <= c.e.checkpointLimit {
		return nil
	}
	return fmt.Errorf("%w: what the facts add up to takes %d MiB, %d are allowed", errTooManyFacts, len(records)>>20, c.e.checkpointLimit>>20)
}

// checkpoint writes the fact, with the volumes that the pages are in: they must exist from then on.
func (c *compaction) checkpoint(ctx context.Context) error {
	e := c.e
	err := e.appendAs(ctx, c.s, func() ([]FactBody, error) {
		if err := c.own.failure(); err != nil {
			return nil, err
		}
		if err := e.syncVolumes(); err != nil { // what others wrote meanwhile is named here as well
			return nil, err
		}
		tail := slices.Clone(*e.appended)
		fact := &checkpointFact{
			records: e.fold.withoutGone(c.onDisk).checkpoint(), replaced: c.root, tail: tail,
			count: c.base.count + uint64(len(c.news)+len(tail)),
		}
		if err := c.fits(fact.records); err != nil {
			return nil, err
		}
		volumes := e.openLengths()
		c.report = CompactReport{Written: true, Facts: len(c.news) + len(tail)}
		return []FactBody{fact, &volumesFact{kind: FactVolumeSealed, list: volumes}}, nil
	})
	if err != nil {
		c.report = CompactReport{}
	}
	return err
}

// drop removes the journals all of whose facts the checkpoint before this one replaced already.
func (c *compaction) drop(ctx context.Context) error {
	var list []*volumeState
	c.e.mu.Lock()
	for _, j := range c.read {
		replaced := !slices.ContainsFunc(j.facts, func(f journalFact) bool { return !c.old[f.id] })
		if v := c.e.volumes.byID[j.id]; v != nil && replaced && !j.harmed && len(j.facts) > 0 && !c.e.fixed(j.id) {
			list = append(list, v)
		}
	}
	c.e.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	if err := c.e.guardSuccessor(list); err != nil {
		return err
	}
	for _, v := range list {
		c.report.Dropped, c.report.Bytes = append(c.report.Dropped, v.id), c.report.Bytes+v.size
	}
	return c.e.drop(ctx, c.s, list, nil)
}

// withoutGone is the fold without what is only there to explain why volumes are missing that commits name: those that were
// dropped and are not on the disk any more.
func (f *fold) withoutGone(onDisk map[volume.ID]int64) *fold {
	out := *f
	gone := func(id volume.ID) bool {
		_, dropped := f.dropped[id]
		_, there := onDisk[id]
		return dropped && !there
	}
	out.dropped = map[volume.ID]volume.Kind{}
	for id, kind := range f.dropped {
		if !gone(id) {
			out.dropped[id] = kind
		}
	}
	out.snapshots = make(map[uint32]*snapshotRecord, len(f.snapshots))
	for slot, s := range f.snapshots {
		if slices.ContainsFunc(s.volumes, func(v sealedVolume) bool { return gone(v.id) }) {
			copied := *s
			copied.volumes = slices.DeleteFunc(slices.Clone(s.volumes), func(v sealedVolume) bool { return gone(v.id) })
			s = &copied
		}
		out.snapshots[slot] = s
	}
	return &out
}

// chainBlobs calls visit for the pages of the list of facts: they must be kept, and name nothing but each other.
func (e *engine) chainBlobs(ctx context.Context, visit func(Kind, ID) error) error {
	e.commitMu.Lock()
	list := e.fold.base.list
	e.commitMu.Unlock()
	s := e.newSession("list of facts")
	defer s.Close()
	get, done := e.pageReader(s)
	err := list.pages(ctx, get, func(id ID) error { return visit(KindNode, id) })
	return errors.Join(err, done())
}
