package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"snapfs/store/volume"
)

// VerifyOptions says what Verify looks at, beside the structure of the store.
type VerifyOptions struct {
	Data    bool    // read every frame, open it, and hash every blob
	Percent float64 // with Data: of the stored bytes, in the volumes verified longest ago; 0: all
	Head    ID      // of the chain of facts at some earlier time, which must be part of it; zero: not asked
	Repair  bool    // mend what can be mended
}

// Problem says what a Finding is about.
type Problem string

// Problems. On the wire and in JSON; append only.
const (
	ProblemFrame   Problem = "frame"   // a frame is not what was written
	ProblemGap     Problem = "gap"     // bytes of a volume belong to no frame
	ProblemLabel   Problem = "label"   // a volume's label
	ProblemTrailer Problem = "trailer" // a volume's trailer: missing where there should be one, or wrong
	ProblemTable   Problem = "table"   // a volume's contents table
	ProblemParity  Problem = "parity"  // frames of parity; nothing is lost yet
	ProblemForeign Problem = "foreign" // a file that is not the volume its name says
	ProblemMissing Problem = "missing" // a volume that facts name is not there
	ProblemShort   Problem = "short"   // a volume is shorter than facts say
	ProblemIndex   Problem = "index"   // the index does not agree with the volumes
	ProblemFacts   Problem = "facts"   // the chain of facts
	ProblemCutOff  Problem = "cut-off" // its end, which the index knows, is not there
	ProblemHead    Problem = "head"    // a fact that was asked for is not part of it
	ProblemLost    Problem = "lost"    // a snapshot names a blob that is in no volume
	ProblemNode    Problem = "node"    // a node or manifest is no such thing
)

// VerifiedBlob is a blob that a Finding concerns. Kind is 0 where that is not known.
type VerifiedBlob struct {
	Kind Kind
	ID   ID
}

// Finding is something that is not as it should be.
type Finding struct {
	Problem Problem
	Volume  volume.ID // zero: none
	Offset  int64     // in the volume; -1: all of it
	Length  int64     // bytes; 0 if that says nothing
	Blobs   []VerifiedBlob
	Text    string
	Healed  bool // what was lost can be had again: it has been restored, or is stored elsewhere
}

// VerifyProgress tells how far a verification is.
type VerifyProgress struct {
	Phase                 string // "volumes", "index", "snapshots", "repair"
	Volumes, VolumesTotal int
	Frames                int64
	Bytes, BytesTotal     int64 // read, and to be read
	Findings              int64
}

// VerifyEvent is progress, or a finding if there is one. Begin means that everything told before is void: another process
// holds the store now and begins anew.
type VerifyEvent struct {
	Begin    bool
	Progress VerifyProgress
	Finding  *Finding
}

// VerifySummary is the result of Verify. Findings that were not healed: Findings - Healed.
type VerifySummary struct {
	Volumes   int
	Snapshots int
	Nodes     int64 // distinct ones, reached from snapshots
	Frames    int64
	Bytes     int64 // read of volumes
	Findings  int64
	Healed    int64
}

// verifier is one verification of the store by its holder.
type verifier struct {
	e       *engine
	session *localSession
	o       VerifyOptions
	event   func(VerifyEvent) error

	mu        sync.Mutex
	p         VerifyProgress
	findings  []Finding
	frames    map[frameKey]bool // that have a finding
	told      time.Time
	stopped   error // of event
	matched   map[volume.ID]int64
	elsewhere []elsewhere
	hurt      []volume.ID // volumes with findings
	left      []volume.ID // of them, those that are not whole after the repair
	reindex   bool        // the index was found wrong
	needed    bool        // a snapshot, partial ones included, names what lies in a damaged frame
	unfolded  bool        // a journal was healed whose facts the index did not know
	fresh     bool        // what is wrong with the chain was told for the first time
	postponed bool        // something could not be mended this time, on a full disk for instance: what is missing may come back
	openers   sync.Pool
	summary   VerifySummary
}

// verifyTick is how often progress is told.
const verifyTick = 200 * time.Millisecond

// verify checks the store while others use it.
func (e *engine) verify(ctx context.Context, s *localSession, o VerifyOptions, event func(VerifyEvent) error) (VerifySummary, error) {
	if !(o.Percent >= 0 && o.Percent <= 100) { // NaN is none either
		return VerifySummary{}, fmt.Errorf("verify %g per cent of the data: not a percentage", o.Percent)
	}
	if e.references == nil {
		return VerifySummary{}, ErrNoReferences
	}
	if o.Repair {
		if err := e.mayWrite(); err != nil {
			return VerifySummary{}, err
		}
	}
	v := &verifier{e: e, session: s, o: o, event: event, matched: map[volume.ID]int64{}, frames: map[frameKey]bool{}}
	v.openers.New = func() any { return &opener{check: frameChecker{keys: e.idKeys}} }
	if err := event(VerifyEvent{Begin: true}); err != nil {
		return VerifySummary{}, err
	}
	for _, step := range []func(context.Context) error{v.facts, v.volumes, v.repair, v.chain, v.index, v.snapshots, v.replace, v.known, v.conclude} {
		if err := step(ctx); err != nil {
			return VerifySummary{}, err
		}
	}
	return v.summary, nil
}

// add keeps a finding until the end, when it is known what can be had elsewhere.
func (v *verifier) add(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.findings = append(v.findings, f)
	v.p.Findings++
	if f.Problem == ProblemFrame {
		v.frames[frameKey{f.Volume, f.Offset}] = true
	}
}

// progress changes the counters and tells of them now and then.
func (v *verifier) progress(change func(p *VerifyProgress)) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.p)
	if now := time.Now(); v.stopped == nil && now.Sub(v.told) >= verifyTick {
		v.told = now
		v.stopped = v.event(VerifyEvent{Progress: v.p})
	}
	return v.stopped
}

// facts checks what the journal says against the volumes that are there.
func (v *verifier) facts(context.Context) error {
	e := v.e
	e.commitMu.Lock()
	need := make([]sealedVolume, 0, len(e.fold.volumes))
	for _, n := range e.fold.volumes {
		need = append(need, n)
	}
	e.commitMu.Unlock()
	slices.SortFunc(need, func(a, b sealedVolume) int { return compareBytes(a.id[:], b.id[:]) })
	for _, n := range need {
		if f, ok := v.e.whereabouts(n); !ok {
			v.add(f)
		}
	}
	return nil
}

// chain checks whether one fact leads to the other, in journals that have been mended if they could be.
func (v *verifier) chain(ctx context.Context) error {
	v.tellAcknowledged()
	found, err := v.e.checkChain(ctx, v.o.Head)
	for _, f := range found {
		if _, known := v.acknowledged(f.acknowledgement()); !known {
			v.add(Finding{Problem: f.Problem.found(), Volume: f.Volume, Offset: f.Offset, Text: f.Text})
		}
	}
	if err == nil && v.o.Repair && !v.postponed {
		err = v.acknowledge(ctx, found)
	}
	v.settleJournals()
	return err
}

// whereabouts says whether a volume that facts name is there in its length.
func (e *engine) whereabouts(n sealedVolume) (f Finding, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.volumes.byID[n.id]
	switch {
	case s != nil && s.dropped:
		return f, true
	case s == nil || s.missing:
		return Finding{Problem: ProblemMissing, Volume: n.id, Offset: -1, Length: n.length, Text: "the volume is missing"}, false
	case s.size < n.length:
		return Finding{Problem: ProblemShort, Volume: n.id, Offset: s.size, Length: n.length - s.size,
			Text: fmt.Sprintf("the volume is cut short: %d of %d bytes", s.size, n.length)}, false
	}
	return f, true
}

// known adds the damage that is recorded and that this verification did not come across.
func (v *verifier) known(context.Context) error {
	v.e.mu.Lock()
	frames := maps.Clone(v.e.damage.frames)
	v.e.mu.Unlock()
	for k, ids := range frames {
		if v.frames[k] || !v.e.inUse(k.volume) {
			continue
		}
		f := Finding{Problem: ProblemFrame, Volume: k.volume, Offset: k.offset, Text: "found damaged when it was last read"}
		for _, id := range ids {
			f.Blobs = append(f.Blobs, VerifiedBlob{ID: id})
		}
		v.add(f)
	}
	return nil
}

// conclude looks which findings cost nothing after all, and tells of them in the order of the volumes.
func (v *verifier) conclude(context.Context) error {
	slices.SortStableFunc(v.findings, func(a, b Finding) int {
		return cmp.Or(compareBytes(a.Volume[:], b.Volume[:]), cmp.Compare(a.Offset, b.Offset))
	})
	v.withoutDropped()
	for i := range v.findings {
		f := &v.findings[i]
		if err := v.settle(f); err != nil {
			return err
		}
		v.summary.Findings++
		if f.Healed {
			v.summary.Healed++
		}
		if err := v.tell(*f); err != nil {
			return err
		}
	}
	v.summary.Frames, v.summary.Bytes, v.summary.Volumes = v.p.Frames, v.p.Bytes, v.p.Volumes
	return nil
}

// withoutDropped leaves out what was found missing because somebody was just dropping it.
func (v *verifier) withoutDropped() {
	v.e.commitMu.Lock()
	defer v.e.commitMu.Unlock()
	v.findings = slices.DeleteFunc(v.findings, func(f Finding) bool {
		_, needed := v.e.fold.volumes[f.Volume]
		return (f.Problem == ProblemMissing || f.Problem == ProblemShort) && !f.Healed && !needed
	})
}

// settle marks a finding as healed if all its blobs can be had elsewhere.
func (v *verifier) settle(f *Finding) error {
	if f.Healed || len(f.Blobs) == 0 {
		return nil
	}
	ids := make([]ID, len(f.Blobs))
	for i, b := range f.Blobs {
		ids[i] = b.ID
	}
	lost, err := v.e.stillDamaged(ids)
	if err != nil {
		return err
	}
	f.Healed = len(lost) == 0
	if f.Healed {
		if f.Problem == ProblemIndex {
			f.Text += "; it has been mended"
		} else {
			f.Text += "; what it held is stored elsewhere as well"
		}
		return nil
	}
	f.Blobs = slices.DeleteFunc(f.Blobs, func(b VerifiedBlob) bool { return !slices.Contains(lost, b.ID) })
	return nil
}

// blobsPerFinding bounds the size of a message.
const blobsPerFinding = 10_000

// tell hands out a finding, in parts if it has very many blobs.
func (v *verifier) tell(f Finding) error {
	blobs := f.Blobs
	for {
		part := f
		part.Blobs = blobs[:min(len(blobs), blobsPerFinding)]
		if err := v.event(VerifyEvent{Progress: v.p, Finding: &part}); err != nil {
			return err
		}
		if blobs = blobs[len(part.Blobs):]; len(blobs) == 0 {
			return nil
		}
	}
}
