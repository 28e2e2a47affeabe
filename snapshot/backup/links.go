package backup

import (
	"sync"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// links makes sure that the content of a file with several names is read once, and that no name is saved without
// its record. Safe for concurrent use.
type links struct {
	w *snapshot.LinkWriter

	mu       sync.Mutex
	underway map[linkKey][]linkName // names met while the first one's file is read
	equal    map[linkKey]bool       // read anew and found as in the base: at most maxEqual, for only the counts suffer
	born     map[linkKey]birth      // of the files made since the run began: few
}

// birth is when a file was made.
type birth struct {
	at    snapshot.Time
	apart bool // its inode belonged to another file before, whose record has the number
}

// maxEqual bounds what is kept of files whose times changed alone, as every new link to them does: 10 MB or so.
const maxEqual = 128 << 10

type linkKey struct {
	fs    uint32
	inode uint64
}

// linkName is a name of a linked inode and where it goes.
type linkName struct {
	t    *dirTask
	slot int
	name string
	kind snapshot.Type
	key  linkKey
	base snapshot.Found
	more snapshot.Found
	sel  *selection
	had  *snapshot.Entry // what base leads to

	tried int
}

func newLinks(w *snapshot.LinkWriter) *links {
	return &links{w: w, underway: map[linkKey][]linkName{}, equal: map[linkKey]bool{}, born: map[linkKey]birth{}}
}

// linked takes a name of an inode that has several.
func (w *walker) linked(c *candidate) error {
	had := w.r.follow(w.ctx, w.r.base, c.base)
	same := w.r.unchanged(had, c.st) && !w.hurt(w.r.base, had)
	if w.r.o.DryRun {
		if same {
			w.seen.unchanged++
		} else {
			w.r.countNew(had == nil)
		}
		return nil
	}
	if w.r.bornMeanwhile(c) && w.r.links.reused(linkKey{c.fs.index, c.st.Ino}, timeOf(c.st.Btime)) {
		return w.single(c)
	}
	n := linkName{
		t: c.t, slot: c.slot, kind: typeOf(c.st.Mode), key: linkKey{c.fs.index, c.st.Ino},
		base: c.base, more: c.more, sel: c.sel, had: had, tried: c.tried,
	}
	if b := c.base.Entry; b != nil {
		n.name = b.Name
	} else {
		n.name = string(c.text())
	}
	switch state, err := w.r.links.name(&n, same); {
	case err != nil:
		return err
	case state == linkWaits:
		return nil
	case state == linkFirst:
		return w.record(c, &n)
	case state == linkEqual:
		same = true
	}
	c.t.window[c.slot] = w.r.linkSlot(&n, same)
	return nil
}

// bornMeanwhile reports whether a file was made since the run began: only such a one can have the inode of another that the run has met.
func (r *run) bornMeanwhile(c *candidate) bool {
	return c.st.Mask&unix.STATX_BTIME != 0 && !before(c.st.Btime, r.job.begun.Add(-c.fs.tick))
}

// reused reports whether a file that was made since the run began has the inode of one that is gone: it is no further name of that,
// and each of its names is saved by itself.
func (l *links) reused(key linkKey, at snapshot.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.born[key]
	if !ok {
		b = birth{at: at, apart: l.w.Has(key.fs, key.inode)}
		l.born[key] = b
	}
	return b.apart || b.at != at
}

// What becomes of a name.
type linkState uint8

const (
	linkKnown linkState = iota // its record is there
	linkEqual                  // and was found as in the base
	linkWaits                  // its slot is filled when the record comes
	linkFirst                  // the caller makes the record
)

// name counts a name. With same set, n.had is a record that still holds.
func (l *links) name(n *linkName, same bool) (linkState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if waiting, ok := l.underway[n.key]; ok {
		n.t.pending.Add(1)
		l.underway[n.key] = append(waiting, *n)
		return linkWaits, nil
	}
	switch {
	case !l.w.Name(n.key.fs, n.key.inode):
		if l.equal[n.key] {
			return linkEqual, nil
		}
		return linkKnown, nil
	case !same:
		l.underway[n.key] = nil
		return linkFirst, nil
	}
	record := *n.had
	record.Name, record.Linked, record.FS, record.Inode, record.Nlink = "", false, n.key.fs, n.key.inode, 0
	return linkKnown, l.w.Set(&record)
}

// record makes the record of the first name met.
func (w *walker) record(c *candidate, n *linkName) error {
	e := &snapshot.Entry{Name: n.name}
	w.r.describe(e, c.st, c.fs, w.now)
	c.t.pending.Add(1)
	job := w.newJob(c, e, n.had)
	job.link = n
	if e.Type == snapshot.TypeFile {
		return w.queue(job)
	}
	if err := w.special(c, e); err != nil {
		w.unseen(c, err)
		w.r.unlinked(n, false, err)
		return nil
	}
	return w.r.finishLinked(&job)
}

// linkSlot makes the directory entry of a linked name and counts it.
func (r *run) linkSlot(n *linkName, same bool) slot {
	switch {
	case n.had == nil:
		r.count.added.Add(1)
	case same:
		r.count.unchanged.Add(1)
	default:
		r.count.changed.Add(1)
	}
	b := n.base.Entry
	if b != nil && b.Linked && b.Type == n.kind && b.FS == n.key.fs && b.Inode == n.key.inode {
		return slot{entry: b, same: true}
	}
	return slot{entry: &snapshot.Entry{Name: n.name, Type: n.kind, Linked: true, FS: n.key.fs, Inode: n.key.inode}}
}

// finishLinked gives the record of a file that was read, and completes its names.
func (r *run) finishLinked(job *fileJob) error {
	n, e, l := job.link, job.entry, r.links
	e.FS, e.Inode = n.key.fs, n.key.inode
	if err := l.w.Set(e); err != nil {
		return err
	}
	l.mu.Lock()
	waiting := l.underway[n.key]
	delete(l.underway, n.key)
	for range waiting {
		l.w.Name(n.key.fs, n.key.inode)
	}
	if job.had != nil && len(l.equal) < maxEqual && sameEntry(job.had, e) {
		l.equal[n.key] = true
	}
	l.mu.Unlock()
	for _, n := range append(waiting, *n) {
		r.complete(n.t, n.slot, r.linkSlot(&n, n.had != nil && sameEntry(n.had, e)))
	}
	return nil
}

// unlinked leaves out the first name of a file that could not be read, after that was reported, or has it looked at
// again. The others are tried each by itself: they may be readable where the first one has gone.
func (r *run) unlinked(n *linkName, again bool, why error) {
	l := r.links
	l.mu.Lock()
	waiting := l.underway[n.key]
	delete(l.underway, n.key)
	l.w.Drop(n.key.fs, n.key.inode)
	l.mu.Unlock()
	for i := range waiting {
		waiting[i].tried-- // these have not been tried yet
	}
	if again {
		waiting = append(waiting, *n)
	} else {
		r.complete(n.t, n.slot, slot{})
	}
	for _, n := range waiting {
		c := candidate{slot: n.slot, base: n.base, more: n.more, sel: n.sel, tried: n.tried, why: why}
		r.sched.push(n.t.owner, &retry{parent: n.t, name: n.name, c: c})
	}
}

// pause hides the files being read from the link tree, whose records are not there yet, until release is called.
func (l *links) pause() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.underway {
		l.w.Drop(key.fs, key.inode)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for key := range l.underway {
			l.w.Name(key.fs, key.inode)
		}
	}
}
