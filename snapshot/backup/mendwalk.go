package backup

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// lacking is a snapshot and what was found damaged of it beside chunks.
type lacking struct {
	snapshot *store.Snapshot
	blobs    map[store.ID]bool
}

// lacks notes that a snapshot needs a blob that only a walk of its source can make again.
func (m *Mender) lacks(s *store.Snapshot, id store.ID) {
	l := m.lacking[s.ID]
	if l == nil {
		l = &lacking{s, map[store.ID]bool{}}
		m.lacking[s.ID] = l
	}
	l.blobs[id] = true
}

func (m *Mender) whole(l *lacking) bool {
	for id := range l.blobs {
		if !m.Mended(id) {
			return false
		}
	}
	return true
}

// walks encodes the snapshots that lack something anew from their sources, the newest first: it is the most like what is there now.
func (m *Mender) walks(ctx context.Context) error {
	if len(m.lacking) == 0 {
		return nil
	}
	lost, err := askDamaged(ctx, m.repo)
	if err != nil {
		return err
	}
	state, err := m.repo.State(ctx)
	if err != nil {
		return err
	}
	for i := len(state.Snapshots) - 1; i >= 0; i-- {
		if l := m.lacking[state.Snapshots[i].ID]; l != nil {
			if err := m.encode(ctx, l, state, lost); err != nil {
				return err
			}
		}
	}
	return nil
}

// mending is what a run has that encodes a snapshot anew.
type mending struct {
	end   time.Time   // of the backup
	doubt atomic.Bool // an entry was fresh if it was read early during the backup, and was not if late
}

// encode walks the source of a snapshot. Which entries were fresh hangs on the moment when they were read, which is not recorded:
// it is taken for the beginning of the backup, and where that matters for its end as well.
func (m *Mender) encode(ctx context.Context, l *lacking, state *store.State, lost damagedBlobs) error {
	s := l.snapshot
	sum, err := snapshot.ParseSummary(s.Summary)
	if err != nil || len(sum.Paths) == 0 {
		return nil // nobody knows its source
	}
	j := &job{identity: identity{dataset: s.Dataset}, repo: lostOnly{m.repo, m, lost}, begun: time.Now(), state: state, damaged: lost}
	like, err := m.trees(ctx, j, s, sum.Parent)
	if err != nil {
		return err
	}
	o := &Options{Paths: sum.Paths, Progress: m.progress}
	if like != nil {
		if like.Found == snapshot.FoundByStream || like.OnlyListed {
			return nil // a stream is over, and the list of files is not known
		}
		o.Exclude, o.IgnoreFiles, o.ExcludeCaches = like.Excludes, like.IgnoreFiles, like.ExcludeCaches
		o.ExcludeLargerThan, o.OneFileSystem = like.ExcludeLargerThan, like.OneFileSystem
	}
	for _, now := range []time.Time{s.Start, sum.End} {
		if m.whole(l) {
			return nil
		}
		p, err := newPlan(o)
		if err != nil {
			return nil // an earlier program took other patterns
		}
		doubt, err := m.walk(ctx, newRun(o, j, p), now, s, sum)
		if err != nil || !doubt {
			return err
		}
	}
	return nil
}

// trees opens what a snapshot can be compared with: itself and beside it its nearest of kin, or that alone. It returns the manifest
// that says what was left out; nil if there is none.
func (m *Mender) trees(ctx context.Context, j *job, s *store.Snapshot, parent store.ID) (_ *snapshot.Manifest, err error) {
	if j.base, err = j.openTree(ctx, s); err != nil {
		return nil, err
	}
	kin, err := m.kin(ctx, j, s, parent)
	switch {
	case err != nil:
		return nil, err
	case j.base != nil:
		j.partial = kin
	default:
		j.base = kin
	}
	if j.base == nil {
		return nil, nil
	}
	return j.base.Manifest(), nil
}

// kin opens the parent of a snapshot, or else the nearest snapshot of its dataset that can be read; nil if there is none.
func (m *Mender) kin(ctx context.Context, j *job, s *store.Snapshot, parent store.ID) (*snapshot.Tree, error) {
	distance := func(n store.Snapshot) uint32 {
		if n.ID == parent {
			return 0
		}
		return max(n.Slot, s.Slot) - min(n.Slot, s.Slot)
	}
	list := slices.Clone(j.state.Snapshots)
	slices.SortStableFunc(list, func(a, b store.Snapshot) int { return cmp.Compare(distance(a), distance(b)) })
	for i := range list {
		if n := &list[i]; n.Dataset == s.Dataset && n.ID != s.ID && !n.Partial {
			if tree, err := j.openTree(ctx, n); tree != nil || err != nil {
				return tree, err
			}
		}
	}
	return nil, nil
}

// walk encodes what the source holds as if it were the time of the snapshot; of that only what is lost is stored. doubt: at another
// time of the backup it would have been encoded otherwise.
func (m *Mender) walk(ctx context.Context, r *run, now time.Time, s *store.Snapshot, sum *snapshot.Summary) (doubt bool, err error) {
	defer r.links.w.Close()
	r.mending = &mending{end: sum.End}
	r.now = func() time.Time { return now }
	if err := r.walk(ctx); ctx.Err() != nil {
		return false, ctx.Err()
	} else if gone := (*snapshot.PathError)(nil); errors.Is(err, ErrNothingSaved) || errors.As(err, &gone) {
		return false, nil // the source is gone
	} else if err != nil {
		return false, err
	}
	if r.root != nil {
		// The manifest, too: the rest of it stands in the commit.
		man := &snapshot.Manifest{
			Dataset: s.Dataset, Name: s.Name, Host: sum.Host, User: sum.User, Paths: sum.Paths, Start: s.Start, End: sum.End,
			Offset: sum.Offset, Parent: sum.Parent, Tags: s.Tags, Program: sum.Program,
			OriginStore: sum.OriginStore, OriginSnapshot: sum.OriginSnapshot,
		}
		if err := r.fill(ctx, man, r.root); err != nil {
			return false, err
		}
		if _, err := snapshot.WriteManifest(ctx, r.nodes, man); err != nil {
			return false, err
		}
	}
	return r.mending.doubt.Load(), r.flush(ctx)
}

// lostOnly is a repository that takes nothing but blobs that are lost.
type lostOnly struct {
	repository
	m    *Mender
	lost damagedBlobs
}

func (l lostOnly) newWriter() blobWriter { return &lostWriter{l.repository.newWriter(), l} }

type lostWriter struct {
	blobWriter
	l lostOnly
}

// Put stores a blob if it is lost.
func (w *lostWriter) Put(ctx context.Context, kind store.Kind, data []byte) (store.ID, error) {
	id := w.l.BlobID(kind, data)
	if !w.l.lost.has(id) || w.l.m.Mended(id) {
		return id, nil
	}
	if _, err := w.blobWriter.Put(ctx, kind, data); err != nil {
		return id, err
	}
	w.l.m.has(id)
	return id, nil
}
