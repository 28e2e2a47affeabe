package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// What is wrong with the chain of facts and cannot be mended (facts are gone that nobody knows, two histories were put together) is
// told by a repair and then acknowledged: by a fact, which in an append-only store only an admin can make. From then on it is
// mentioned by every verification, and is no damage any more.

// acknowledgements lists what has been acknowledged, in a fixed order.
func (e *engine) acknowledgements() (list []*acknowledgedFact) {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(e.fold.records)) {
		if key[1] != byte(FactAcknowledged) {
			continue
		}
		body, err := parseBody(FactAcknowledged, e.fold.records[key])
		if f, ok := body.(*acknowledgedFact); err == nil && ok && len(f.list) == 1 {
			list = append(list, f)
		}
	}
	return list
}

// acknowledged looks up whether a finding has been acknowledged.
func (v *verifier) acknowledged(a acknowledged) (at time.Time, ok bool) {
	v.e.commitMu.Lock()
	defer v.e.commitMu.Unlock()
	value, ok := v.e.fold.records[string(recordKey(FactAcknowledged, a.key()))]
	if !ok {
		return at, false
	}
	body, err := parseBody(FactAcknowledged, value)
	if err != nil {
		return at, false
	}
	return body.(*acknowledgedFact).at, true
}

// acknowledgement is what a fact would say of the finding.
func (f ChainFinding) acknowledgement() acknowledged {
	return acknowledged{problem: f.Problem, volume: f.Volume, seq: f.Seq, fact: f.Fact, text: f.Text}
}

// settledText is what verify says of a finding that was acknowledged.
func settledText(at time.Time) string {
	return fmt.Sprintf("; acknowledged on %s", at.Local().Format("2006-01-02 15:04"))
}

// tellAcknowledged mentions what has been acknowledged.
func (v *verifier) tellAcknowledged() {
	for _, f := range v.e.acknowledgements() {
		a := f.list[0]
		v.add(Finding{Problem: ProblemFacts, Volume: a.volume, Offset: -1, Text: a.text + settledText(f.at), Healed: true})
	}
}

// settleJournals: what is damaged in a journal whose loss was acknowledged is no news.
func (v *verifier) settleJournals() {
	for i := range v.findings {
		f := &v.findings[i]
		if f.Healed || f.Volume.IsZero() {
			continue
		}
		if at, ok := v.acknowledged(acknowledged{problem: ChainDamaged, volume: f.Volume}); ok && !v.fresh {
			f.Healed = true
			f.Text += settledText(at)
		}
	}
}

// acknowledge records what a repair could not mend of the chain, and writes a checkpoint, so that the journal can be compacted again. What
// hints at a store that was put back from an older copy is left alone: going on from there is for people to decide (Rebuild).
func (v *verifier) acknowledge(ctx context.Context, found []ChainFinding) error {
	var fresh []ChainFinding
	gaps, anew := false, false
	for _, f := range found {
		if f.Problem == ChainCutOff {
			return nil
		}
		if f.Problem == ChainUnknownHead {
			continue
		}
		anew = anew || f.Problem == ChainDamaged && f.Volume.IsZero()
		gaps = gaps || anew || f.Problem != ChainDamaged
		if _, known := v.acknowledged(f.acknowledgement()); !known {
			fresh = append(fresh, f)
		}
	}
	if len(fresh) == 0 && !gaps {
		return nil
	}
	if v.late(fresh) {
		if err := v.e.rebuild(nil); err != nil { // what the index has not seen must count before a checkpoint says that it did
			return err
		}
	}
	text := "; recorded: from now on it is only mentioned"
	err := v.recordLoss(ctx, fresh, &compaction{e: v.e, s: v.session, bridge: gaps, lost: true, anew: anew})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrNotAdmin):
		text = "; an admin of the store can acknowledge it with 'snapfs verify --repair'"
	case err != nil:
		text = "; not acknowledged: " + err.Error()
	}
	v.fresh = len(fresh) > 0
	for i := range v.findings {
		f := &v.findings[i]
		if f.Problem == ProblemFacts && !f.Healed && slices.ContainsFunc(fresh, func(c ChainFinding) bool {
			return c.Text == f.Text && c.Volume == f.Volume
		}) {
			f.Text += text
		}
	}
	return nil
}

// late reports whether facts stand behind the checkpoint that it does not know: of another history, or lost ones that came back.
func (v *verifier) late(found []ChainFinding) bool {
	v.e.commitMu.Lock()
	defer v.e.commitMu.Unlock()
	return slices.ContainsFunc(found, func(f ChainFinding) bool { return f.Problem == ChainTwice && f.Seq < v.e.fold.base.seq })
}

// recordLoss writes the fact, and the checkpoint that is to bridge what is missing.
func (v *verifier) recordLoss(ctx context.Context, fresh []ChainFinding, c *compaction) error {
	e := v.e
	if !e.canDrop(v.session) {
		return errAppendOnly
	}
	if len(fresh) > 0 {
		fact := &acknowledgedFact{job: v.session.job, at: e.now()}
		for _, f := range fresh {
			fact.list = append(fact.list, f.acknowledgement())
		}
		if err := e.appendAs(ctx, v.session, func() ([]FactBody, error) { return []FactBody{fact}, nil }); err != nil {
			return err
		}
	}
	if !c.bridge {
		return nil
	}
	e.maintenance.Lock()
	defer e.maintenance.Unlock()
	if err := c.run(ctx); err != nil && ctx.Err() == nil { // what was acknowledged is, and the next repair tries again
		e.log.Warn("the journal is not compacted", "err", err)
	}
	return ctx.Err()
}
