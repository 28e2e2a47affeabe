package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"sync/atomic"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// identity is what a snapshot says about its making.
type identity struct {
	dataset string
	tags    []string
	host    string
	time    time.Time // zero: now
	program string

	newSource     bool
	skipUnchanged bool
	wait          bool
	warn          func(string)
}

// job is a backup of a dataset, of a tree or a stream, from its lock to its commit.
type job struct {
	identity
	repo    repository
	paths   []string
	start   time.Time
	begun   time.Time // by the clock, for Elapsed
	state   *store.State
	newest  *store.Snapshot // of the dataset, complete; nil if it is the first
	parent  *store.Snapshot // the newest that can be read
	base    *snapshot.Tree  // the parent's
	partial *snapshot.Tree  // of a run after the parent that was interrupted
	earlier bool
	damaged damagedBlobs
	unlock  func()

	metDamage atomic.Bool // in what the dataset's earlier snapshots need

	partialActivity snapshot.Activity // what the run of the partial had counted
}

// newJob locks the dataset and finds the parent. Errors: ErrNewSource, ErrDatasetName, *store.LockedError.
func newJob(ctx context.Context, repo repository, id identity, paths []string) (_ *job, err error) {
	if err := snapshot.DatasetName(id.dataset); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDatasetName, err)
	}
	j := &job{identity: id, repo: repo, paths: paths, begun: time.Now()}
	if j.host == "" {
		if j.host, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("this machine's name: %w", err)
		}
	}
	if j.unlock, err = repo.LockDataset(ctx, j.dataset, j.wait); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			j.unlock()
		}
	}()
	j.start = j.time
	if j.start.IsZero() {
		j.start = time.Now() // after the wait for the lock
	}
	if j.state, err = repo.State(ctx); err != nil {
		return nil, err
	}
	if j.damaged, err = askDamaged(ctx, repo); err != nil {
		return nil, err
	}
	if err := j.findParent(ctx); err != nil {
		return nil, err
	}
	return j, j.checkSource()
}

// findParent opens the dataset's last snapshot that can be read, and a partial that is newer.
func (j *job) findParent(ctx context.Context) error {
	for i := len(j.state.Snapshots) - 1; i >= 0 && j.parent == nil; i-- {
		s := &j.state.Snapshots[i]
		if s.Dataset != j.dataset || s.Forgotten || s.Partial {
			continue
		}
		if j.newest == nil {
			j.newest = s
		}
		if s.Damaged != "" {
			j.metDamage.Store(true)
			j.warnf("snapshot %s is damaged and cannot be compared with: %s", s.Name, s.Damaged)
			continue
		}
		tree, err := j.openTree(ctx, s)
		if err != nil {
			return err
		}
		if tree != nil {
			j.parent, j.base = s, tree
		}
	}
	for i := range j.state.Snapshots {
		s := &j.state.Snapshots[i]
		if s.Dataset != j.dataset || !s.Partial || s.Damaged != "" || s.Forgotten || j.newest != nil && s.Slot < j.newest.Slot {
			continue
		}
		tree, err := j.openTree(ctx, s)
		if err != nil {
			return err
		}
		j.partial = tree
		j.partialActivity, _ = activityOf(s)
	}
	j.earlier = j.time.IsZero() && j.newest != nil && j.start.Before(j.newest.Start)
	if j.earlier {
		j.warnf("the clock is behind: the dataset's newest snapshot began at %s", j.newest.Start.Format(time.RFC3339))
	}
	return nil
}

// openTree pins and opens a snapshot; nil if it cannot be read.
func (j *job) openTree(ctx context.Context, s *store.Snapshot) (*snapshot.Tree, error) {
	err := j.repo.Pin(ctx, s.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil // pruned since the state was read
	}
	if err != nil {
		return nil, err
	}
	tree, err := snapshot.OpenTree(ctx, j.repo, j.repo.PageKey(), s.ID, nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		j.metDamage.Store(true)
		j.warnf("snapshot %s cannot be read and is not compared with: %v", s.Name, err)
		return nil, nil
	}
	return tree, nil
}

// checkSource refuses to mix sources in one timeline.
func (j *job) checkSource() error {
	if j.newest == nil || j.newSource {
		return nil
	}
	sum, err := snapshot.ParseSummary(j.newest.Summary)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", j.newest.Name, err)
	}
	if sum.Host != j.host {
		return fmt.Errorf("dataset %s: %w (host %s, now %s)", j.dataset, ErrNewSource, sum.Host, j.host)
	}
	if !slices.Equal(sum.Paths, j.paths) {
		return fmt.Errorf("dataset %s: %w (%q, now %q)", j.dataset, ErrNewSource, sum.Paths, j.paths)
	}
	return nil
}

func (j *job) warnf(format string, args ...any) {
	if j.warn != nil {
		j.warn(fmt.Sprintf(format, args...))
	}
}

// manifest returns a manifest with all that is known before the walk.
func (j *job) manifest() *snapshot.Manifest {
	_, offset := j.start.Zone()
	m := &snapshot.Manifest{
		Dataset: j.dataset, Host: j.host, User: userName(), Paths: j.paths, Start: j.start, Offset: offset,
		Tags: sortedTags(j.tags), Program: j.program, StartedEarlier: j.earlier,
	}
	if j.parent != nil {
		m.Parent = j.parent.ID
	}
	return m
}

func sortedTags(tags []string) []string {
	tags = slices.Clone(tags)
	slices.Sort(tags)
	return slices.Compact(tags)
}

func userName() string {
	u, err := user.Current()
	if err != nil {
		return fmt.Sprint(os.Getuid())
	}
	return u.Username
}

// name is the snapshot's name, different from those of the dataset's other snapshots.
func (j *job) name() string {
	return snapshot.SnapshotName(j.start, func(name string) bool {
		return slices.ContainsFunc(j.state.Snapshots, func(s store.Snapshot) bool {
			return s.Dataset == j.dataset && !s.Partial && s.Name == name
		})
	})
}

// parentXattrs are the kinds of extended attributes that entries taken over from the parent may have: they are not
// looked through.
func (j *job) parentXattrs() snapshot.XattrKinds {
	if j.parent == nil {
		return 0
	}
	sum, err := snapshot.ParseSummary(j.parent.Summary)
	if err != nil {
		sum = &snapshot.Summary{HasXattrs: true}
	}
	return sum.Xattrs()
}
