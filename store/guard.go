package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"snapfs/store/volume"
)

// Sealed volumes that hold something held get the immutable flag of the file system, where it has one and root holds the
// store: then not even root removes or changes them by accident. While there is any hold all journals have it, too: the blobs of
// a snapshot are worth nothing without the facts that say it is there, that it is held, and what has replaced its volumes since.

// setImmutable sets or clears the flag of a file; was says what it was before. Where it cannot be set, nothing is said.
func setImmutable(path string, on bool) (was bool, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return false, nil // not on this file system
	}
	was = flags&unix.STATX_ATTR_IMMUTABLE != 0 // the same bit as FS_IMMUTABLE_FL
	if was == on {
		return was, nil
	}
	err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags^unix.STATX_ATTR_IMMUTABLE))
	if err != nil && on {
		return false, nil // not on this file system, or not by this user
	}
	if err != nil {
		return was, &fs.PathError{Op: "clear immutable flag of", Path: path, Err: err}
	}
	return was, nil
}

// SetImmutable implements Files.
func (f osFiles) SetImmutable(path string, on bool) (was bool, err error) {
	return setImmutable(path, on)
}

// guard sets the flag of a volume that takes no more frames.
func (e *engine) guard(id volume.ID) error {
	_, err := e.files.SetImmutable(volumePath(e.dir, id), true)
	return ignoreMissing(err)
}

// unguard clears a volume's flag and tells whether it was set. An error means that the volume cannot be removed: only
// root clears flags.
func (e *engine) unguard(id volume.ID) (was bool, err error) {
	was, err = e.files.SetImmutable(volumePath(e.dir, id), false)
	return was, ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeVolume deletes a volume's file, which may be gone already, whether it is guarded or not. A fact must have said so,
// and the index no longer name it; what replaces a guarded volume must be guarded before.
func (e *engine) removeVolume(id volume.ID) error {
	if err := e.lock.inPlace(); err != nil { // it is the same volume, in a copy of the store
		return err
	}
	if _, err := e.unguard(id); err != nil {
		return fmt.Errorf("volume %s: %w", id, err)
	}
	if err := ignoreMissing(e.files.Remove(volumePath(e.dir, id))); err != nil {
		return fmt.Errorf("volume %s: %w", id, err)
	}
	return e.files.SyncDir(filepath.Join(e.dir, volumesName))
}

// isGuarded reports whether a volume's file has the flag.
func (e *engine) isGuarded(id volume.ID) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, volumePath(e.dir, id), unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0
}

// fixed reports whether a volume is guarded and this process cannot change that: it stays until root comes by.
func (e *engine) fixed(id volume.ID) bool { return os.Geteuid() != 0 && e.isGuarded(id) }

// inheritGuard guards sealed volumes that are to replace others if one of those is guarded: before these are removed.
func (e *engine) inheritGuard(old, replacing []volume.ID) error {
	if !slices.ContainsFunc(old, e.isGuarded) {
		return nil
	}
	for _, id := range replacing {
		if err := e.guard(id); err != nil {
			return err
		}
	}
	return nil
}

// guardHeld sets the flag of every sealed volume that holds something held and of the journals, and clears that of all others, unless
// something held cannot be read: nobody knows then where the rest of it lies. Volumes that this process still writes are guarded when they
// are sealed. All that held snapshots need is walked for it; what was found, if that was all, is recorded for keepGuards.
func (e *engine) guardHeld(ctx context.Context) error {
	if e.frozen || e.references == nil {
		return nil
	}
	e.guardMu.Lock()
	defer e.guardMu.Unlock()
	state := e.guardState() // before the walk: what changes meanwhile calls for another
	held, all, err := e.heldVolumes(ctx)
	if err != nil {
		return fmt.Errorf("volumes with held snapshots: %w", err)
	}
	on, off := e.toGuard(held)
	if !all {
		off = nil
	}
	err = e.guardAll(on)
	for _, id := range off {
		_, cleared := e.unguard(id)
		err = errors.Join(err, cleared)
	}
	err = errors.Join(err, e.guardJournals())
	if err != nil || !all {
		return err
	}
	return e.recordGuards(guardRecord{state, slices.Collect(maps.Keys(held))})
}

// toGuard notes which volumes are to be guarded and divides those that nobody writes.
func (e *engine) toGuard(held map[volume.ID]bool) (on, off []volume.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.guarded = held
	for id, v := range e.volumes.byID {
		switch {
		case v.missing || v.dropped || v.kind == volume.Journal || e.writing(v):
		case held[id]:
			on = append(on, id)
		default:
			off = append(off, id)
		}
	}
	return on, off
}

func (e *engine) guardAll(list []volume.ID) (err error) {
	for _, id := range list {
		err = errors.Join(err, e.guard(id))
	}
	return err
}

// guardJournals guards all journals if anything is held, the one being written as well: it is sealed for that, and the next fact
// begins another. If nothing is, it clears their flags.
func (e *engine) guardJournals() error {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	held := len(e.held()) > 0
	if held {
		if err := e.closeJournal(); err != nil {
			return err
		}
	}
	return e.flagJournals(held)
}

// flagJournals sets or clears the flag of the journals that are not being written. Needs commitMu.
func (e *engine) flagJournals(on bool) (err error) {
	for _, j := range e.journalsAt() {
		if e.journal != nil && e.journal.id == j.id {
			continue
		}
		_, flagErr := e.files.SetImmutable(volumePath(e.dir, j.id), on)
		err = errors.Join(err, ignoreMissing(flagErr))
	}
	return err
}

// guardSuccessor is called before journals are dropped because what they say stands in the present one: if they are guarded, that is
// sealed and guarded first.
func (e *engine) guardSuccessor(old []*volumeState) error {
	if !slices.ContainsFunc(old, func(v *volumeState) bool { return e.isGuarded(v.id) }) {
		return nil
	}
	return e.guardJournals()
}

// held lists the snapshots that are held now. Needs commitMu.
func (e *engine) held() (list []*snapshotRecord) {
	at := e.holdTime(e.now())
	for _, s := range e.fold.snapshots {
		if s.held(at) && !s.partial {
			list = append(list, s)
		}
	}
	return list
}

// heldVolumes finds the volumes that hold anything that a held snapshot needs, and the list of the facts before the checkpoint; all:
// there are no others, as everything could be read.
func (e *engine) heldVolumes(ctx context.Context) (held map[volume.ID]bool, all bool, err error) {
	for range pruneAttempts {
		e.mu.Lock()
		version := e.marks
		e.mu.Unlock()
		numbers, all, err := e.heldNumbers(ctx)
		if err != nil {
			return nil, false, err
		}
		held := map[volume.ID]bool{}
		e.mu.Lock()
		same := e.marks == version
		for n := range numbers {
			if v := e.volumes.byNumber[n]; v != nil && !v.missing && !v.dropped {
				held[v.id] = true
			}
		}
		e.mu.Unlock()
		if same {
			return held, all, nil
		}
	}
	return nil, false, errStale
}

// heldNumbers are the short numbers of these volumes.
func (e *engine) heldNumbers(ctx context.Context) (held map[uint32]bool, all bool, err error) {
	var roots, pages []reference
	e.commitMu.Lock()
	for _, s := range e.held() {
		roots = append(roots, reference{KindManifest, s.snapshot})
	}
	e.commitMu.Unlock()
	held = map[uint32]bool{}
	if len(roots) == 0 {
		return held, true, nil
	}
	s := e.newSession("guard of held snapshots")
	defer s.Close()
	w := &heldWalk{e: e, reader: newReader(e.dir, e.bundle, s, walkCache), seen: placeSet{}, held: held}
	defer w.reader.close()
	err = e.chainBlobs(ctx, func(kind Kind, id ID) error {
		pages = append(pages, reference{kind, id})
		return nil
	})
	if err != nil {
		w.unread = true
		e.log.Warn("list of facts not guarded as a whole", "err", err)
	}
	if _, err := w.locate(pages); err != nil { // they name nothing but each other
		return nil, false, err
	}
	err = w.walk(ctx, roots)
	return held, !w.unread, err
}

// heldWalk goes through everything that held snapshots need. What cannot be read guards nothing: it is verify that
// finds damage.
type heldWalk struct {
	e      *engine
	reader *reader
	seen   placeSet
	held   map[uint32]bool
	unread bool // something was not there, or could not be read
}

func (w *heldWalk) walk(ctx context.Context, roots []reference) error {
	stack, err := w.locate(roots)
	for err == nil && len(stack) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		data, readErr := w.reader.get(ctx, at.kind, at.id)
		if readErr != nil {
			w.unread = true
			continue
		}
		var names []reference
		if w.e.references(at.kind, data, func(kind Kind, id ID) { names = append(names, reference{kind, id}) }) != nil {
			w.unread = true
			continue
		}
		var below []reference
		below, err = w.locate(names)
		stack = append(stack, below...)
	}
	return err
}

// locate notes in which volumes blobs lie and returns those that name others and were not seen before.
func (w *heldWalk) locate(names []reference) (inner []reference, err error) {
	for part := range slices.Chunk(names, indexBatch) {
		ids := make([]ID, len(part))
		for i, n := range part {
			ids[i] = n.id
		}
		places, err := w.e.lookUpShort(ids)
		if err != nil {
			return nil, err
		}
		for i, n := range part {
			if places[i].stored == 0 {
				w.unread = true
				continue
			}
			w.held[places[i].volume] = true
			if (n.kind == KindNode || n.kind == KindManifest) && w.seen.add(places[i]) {
				inner = append(inner, n)
			}
		}
	}
	return inner, nil
}
