package backup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// Options says what to take a snapshot of, and how. The zero value of each field is the recommendation.
type Options struct {
	Paths   []string // as given: made absolute, merged, a symlink itself followed
	Dataset string   // "": made from the single path
	Tags    []string
	Host    string // "": this machine's name
	Time    time.Time
	Program string

	Exclude           []string // gitignore patterns
	ExcludeFiles      []string // files of such patterns
	IgnoreFiles       bool     // honour .gitignore-like ignore files found in the tree
	ExcludeCaches     bool     // CACHEDIR.TAG
	ExcludeLargerThan int64    // bytes; 0: no limit
	OneFileSystem     bool
	Files             []string // --files-from: save just these (and what is below them)
	UseFiles          bool     // Files counts even when it is empty

	Reread        bool // read every file
	IgnoreInode   bool
	IgnoreCtime   bool
	NewSource     bool // allow another host or other paths than the dataset's newest snapshot
	SkipUnchanged bool
	DryRun        bool
	Wait          bool // for another backup of the dataset

	Workers         int           // 0: one per core
	PartialInterval time.Duration // 0: 10 minutes
	Progress        func(Progress)
	OnError         func(*snapshot.PathError) // each path that existed and could not be read
	Warn            func(msg string)
}

// Progress tells how far a backup is; called at most a few times a second, never concurrently.
type Progress struct {
	Entries, Files int64
	Bytes          int64 // logical size of files seen
	BytesRead      int64
	BytesStored    int64
	Errors         int64
	Current        string
}

// Result is a finished backup.
type Result struct {
	Snapshot    store.Snapshot // zero when dry or skipped
	Dataset     string
	Parent      store.ID
	ParentName  string
	Entries     int64 // everything below the root
	New         int64 // non-directories, each hard-link name once
	Changed     int64
	Unchanged   int64
	Removed     int64
	Unstable    int64
	Bytes       int64
	BytesRead   int64
	BytesStored int64
	Errors      int64
	Unusual     []Unusual // why the snapshot is tagged suspicious; none: it is not
	Skipped     bool      // --skip-unchanged and nothing had changed
	Elapsed     time.Duration
}

// Run takes a snapshot of paths. The snapshot exists when it returns without error; paths that could not be read are
// counted in Result.Errors and given to OnError. OnError and Warn are called from several goroutines, one at a time.
// Errors: ErrNothingSaved, ErrNewSource, ErrDatasetNeeded, ErrDatasetName, *snapshot.PatternError, *store.LockedError ...
func Run(ctx context.Context, st *store.Store, o Options) (*Result, error) {
	return backupTree(ctx, storeRepository{st}, &o, hooks{})
}

// DatasetFor is the dataset that Run uses for paths when Options.Dataset is empty, whether they exist or not.
// Errors: ErrDatasetNeeded, ErrDatasetName.
func DatasetFor(paths []string) (string, error) {
	given, err := absolutePaths(paths)
	if err != nil {
		return "", err
	}
	if given = outermost(given); len(given) != 1 {
		return "", ErrDatasetNeeded
	}
	name := snapshot.DefaultDataset(given[0])
	if err := snapshot.DatasetName(name); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDatasetName, err)
	}
	return name, nil
}

func backupTree(ctx context.Context, repo repository, o *Options, h hooks) (*Result, error) {
	if len(o.Paths) == 0 && len(o.Files) > 0 {
		o.Paths, o.Files, o.UseFiles = o.Files, nil, false // each is a PATH
	}
	p, err := newPlan(o)
	if err != nil {
		return nil, err
	}
	dataset := o.Dataset
	if dataset == "" {
		if dataset, err = DatasetFor(o.Paths); err != nil {
			return nil, err
		}
	}
	if len(p.missing) > 0 && len(p.sel.children) == 0 {
		for _, e := range p.missing {
			if o.OnError != nil {
				o.OnError(e)
			}
		}
		return nil, fmt.Errorf("%w: %w", ErrNothingSaved, p.missing[0])
	}
	j, err := newJob(ctx, repo, identity{
		dataset: dataset, tags: o.Tags, host: o.Host, time: o.Time, program: o.Program,
		newSource: o.NewSource, skipUnchanged: o.SkipUnchanged, wait: o.Wait, warn: o.Warn,
	}, p.paths)
	if err != nil {
		return nil, err
	}
	defer j.unlock()
	r := newRun(o, j, p)
	if r.hooks = h; h.batchFiles > 0 {
		r.batchFiles = h.batchFiles
	}
	if h.begun != nil {
		h.begun(r)
	}
	defer r.links.w.Close()
	return r.take(ctx)
}

// take walks the source and commits the snapshot.
func (r *run) take(ctx context.Context) (*Result, error) {
	for _, e := range slices.Concat(r.plan.missing, r.plan.outside) {
		r.report(e.Op, e.Path, e.Err)
	}
	if err := r.walk(ctx); err != nil {
		return nil, err
	}
	if r.root == nil || r.nothing() {
		return nil, r.nothingSaved()
	}
	res := r.result()
	if r.o.DryRun {
		return res, nil
	}
	m := r.job.manifest()
	if err := r.fill(ctx, m, r.root); err != nil {
		return nil, err
	}
	if !m.Single && m.ErrorCount > 0 && m.Totals.Entries == 0 {
		return nil, r.nothingSaved() // the one file was found and could not be read
	}
	res.Entries, res.Bytes = int64(m.Totals.Entries), int64(m.Totals.Bytes)
	if r.o.SkipUnchanged && r.same() {
		res.Skipped = true
		return res, r.heal(ctx)
	}
	if res.Unusual = r.suspect(m); len(res.Unusual) > 0 {
		m.Tags = sortedTags(append(m.Tags, snapshot.TagSuspicious))
	}
	s, err := r.commit(ctx, m, false)
	if err != nil {
		return nil, err
	}
	res.Snapshot, res.BytesStored = s, r.stored()
	res.Elapsed = time.Since(r.job.begun)
	if r.o.Progress != nil {
		r.count.stored.Store(res.BytesStored)
		r.o.Progress(r.count.progress())
	}
	return res, nil
}

// nothing reports whether all that was asked for failed.
func (r *run) nothing() bool {
	return r.count.errors.Load() > 0 && r.count.entries.Load() == 0
}

func (r *run) nothingSaved() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) > 0 {
		return fmt.Errorf("%w: %s: %s", ErrNothingSaved, r.errs[0].Path, r.errs[0].Error)
	}
	return ErrNothingSaved
}

// same reports whether the snapshot would be as its parent, but for flags that say what to read again.
func (r *run) same() bool {
	if r.base == nil || r.job.parent != r.job.newest || r.count.differs() {
		return false
	}
	return r.count.errors.Load() == 0 || r.root.Dir == r.base.Manifest().Root.Dir
}

// fill completes a manifest with what the walk found.
func (r *run) fill(ctx context.Context, m *snapshot.Manifest, root *snapshot.Entry) error {
	var links, linkedBytes uint64
	var err error
	if m.LinkTree, links, linkedBytes, err = r.links.w.Finish(ctx, r.nodes); err != nil {
		return err
	}
	m.Root, m.Single, m.Links = *root, r.plan.single, links
	m.Root.Name = ""
	m.Totals = root.Totals
	m.Totals.Bytes += linkedBytes
	if len(m.Paths) == 1 {
		m.Above = r.above(m.Paths[0])
	}
	m.Excludes = r.plan.excludes
	m.IgnoreFiles, m.ExcludeCaches, m.OneFileSystem = r.o.IgnoreFiles, r.o.ExcludeCaches, r.o.OneFileSystem
	m.ExcludeLargerThan = r.o.ExcludeLargerThan
	m.OnlyListed = r.o.UseFiles || len(r.o.Files) > 0
	m.FileSystems = r.fs.list()
	m.Found = snapshot.FoundByScan
	m.Unstable = uint64(r.count.unstable.Load())
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Errors, m.ErrorCount = slices.Clone(r.errs), uint64(r.count.errors.Load())
	slices.SortFunc(m.Errors, func(a, b snapshot.FileError) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

func (r *run) result() *Result {
	c := &r.count
	res := &Result{
		Dataset: r.job.dataset, Entries: c.entries.Load(), Bytes: c.bytes.Load(),
		New: c.added.Load(), Changed: c.changed.Load(), Unchanged: c.unchanged.Load(), Removed: c.removed.Load(),
		Unstable: c.unstable.Load(), BytesRead: c.bytesRead.Load(), Errors: c.errors.Load(),
		Elapsed: time.Since(r.job.begun),
	}
	if r.job.parent != nil {
		res.Parent, res.ParentName = r.job.parent.ID, r.job.parent.Name
	}
	return res
}
