package store

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

func volumesDir(dir string) string { return filepath.Join(dir, volumesName) }

// Init makes a store in dir, which must be missing or empty (ErrNotEmpty, ErrStoreExists). A failed Init leaves dir as it was.
func Init(_ context.Context, dir string, o InitOptions) (err error) {
	dir, err = AbsolutePath(dir)
	if err != nil {
		return err
	}
	c, err := newConfig(o, time.Now())
	if err != nil {
		return err
	}
	made, err := emptyDir(dir)
	if err != nil {
		return err
	}
	lock, err := lockEmpty(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	defer func() {
		if err != nil {
			err = errors.Join(err, clearDir(dir, made))
		}
	}()
	restore, err := makePrivate(dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && !made {
			err = errors.Join(err, restore())
		}
	}()
	files, err := filesFor(dir)
	if err != nil {
		return err
	}
	create := seal.Create
	switch {
	case o.AppendOnly:
		create = seal.CreateAppendOnly
	case o.Like != nil:
		create = func(dir string, slots []seal.NewSlot) (*seal.Bundle, error) {
			return seal.CreateLike(dir, slots, o.Like)
		}
	}
	bundle, err := create(filepath.Join(dir, keysName), o.Slots)
	if err != nil {
		return err
	}
	if err := os.Mkdir(volumesDir(dir), 0o700); err != nil {
		return err
	}
	data, err := c.encode(bundle)
	if err != nil {
		return err
	}
	if err := files.WriteFile(filepath.Join(dir, configName), data); err != nil {
		return err
	}
	return errors.Join(files.ownTree(dir), files.SyncDir(filepath.Dir(dir)))
}

// makePrivate keeps others out of dir; restore gives it back the mode it had.
func makePrivate(dir string) (restore func() error, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	return func() error { return os.Chmod(dir, mode) }, os.Chmod(dir, 0o700)
}

// emptyDir makes dir, or accepts an empty one.
func emptyDir(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeParents(dir, osFiles{}.SyncDir); err != nil {
			return false, err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	return false, checkEmpty(dir, "")
}

// makeParents makes the directories above dir that are missing, each with a name that lasts.
func makeParents(dir string, syncDir func(string) error) error {
	parent := filepath.Dir(dir)
	err := os.Mkdir(parent, 0o777)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeParents(parent, syncDir); err != nil {
			return err
		}
		err = os.Mkdir(parent, 0o777)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(parent))
}

// checkEmpty refuses a directory with anything but one file in it.
func checkEmpty(dir, but string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == configName {
			return fmt.Errorf("%s: %w", dir, ErrStoreExists)
		}
	}
	for _, e := range entries {
		if e.Name() != but {
			return fmt.Errorf("%s: %w", dir, ErrNotEmpty)
		}
	}
	return nil
}

// clearDir undoes a failed Init.
func clearDir(dir string, made bool) error {
	if made {
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// lockEmpty keeps others from making a store in the same directory at the same time: whoever came second would otherwise
// clear away what the first one made.
func lockEmpty(dir string) (*storeLock, error) {
	files, err := filesFor(dir)
	if err != nil {
		return nil, err
	}
	lock, _, err := takeLock(dir, files)
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNotEmpty)
	}
	if err != nil {
		return nil, err
	}
	if err := checkEmpty(dir, lockName); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return lock, nil
}

// isNothing reports whether a path leads nowhere.
func isNothing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// unreachable marks what nobody but the owner of a store may look at.
func unreachable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// checkOwner refuses everybody but root and the owner of the store.
func checkOwner(dir string) error {
	uid, _, err := owner(dir)
	switch {
	case isNothing(err):
		return fmt.Errorf("%s: %w", dir, ErrNoStore)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if me := os.Geteuid(); me != 0 && me != uid {
		return fmt.Errorf("%s belongs to user %d: %w", dir, uid, ErrNotOwner)
	}
	return nil
}

// openEngine holds the store: errLocked if another process does. bundle is asked for only when it is nil. locked, if any,
// is called as soon as no other process can hold the store (not for a store on a read-only file system).
func openEngine(ctx context.Context, dir string, o Options, bundle *seal.Bundle, locked func() error) (*engine, error) {
	files := o.Files
	if files == nil {
		own, err := filesFor(dir)
		if err != nil {
			return nil, err
		}
		files = own
	}
	lock, frozen, err := takeLock(dir, files)
	if err != nil {
		return nil, err
	}
	if locked != nil && !frozen {
		if err := locked(); err != nil {
			return nil, errors.Join(err, lock.release())
		}
	}
	e := &engine{
		dir: dir, files: files, log: o.Log, now: o.Now, program: o.Program, lock: lock, limit: volumeLimit, checkpointLimit: maxCheckpointSize, frozen: frozen,
		bundle: bundle, references: o.References,
		fold: newFold(), current: map[volume.Kind]*openVolume{}, pending: map[ID]pendingBlob{},
		changed: make(chan struct{}), closing: make(chan struct{}), protectAfter: protectAfter,
		guarded: map[volume.ID]bool{}, locks: map[string]namedLock{}, unlocked: make(chan struct{}),
		sessions: map[*localSession]struct{}{}, state: &State{}, damage: newDamage(), verified: map[volume.ID]time.Time{},
		absent: map[[16]byte]*absentSession{}, written: make(chan struct{}, 1),
	}
	if err := e.start(ctx, o.Unlock); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return e, nil
}

// start unlocks the keys, opens the index and brings it up to date with the volumes.
func (e *engine) start(ctx context.Context, unlock seal.Unlocker) (err error) {
	if e.config, err = readConfig(e.dir); err != nil {
		return err
	}
	if e.storeID, err = e.config.storeID(); err != nil {
		return err
	}
	if e.bundle == nil {
		if e.bundle, err = seal.Open(ctx, filepath.Join(e.dir, keysName), unlock); err != nil {
			return err
		}
	}
	if err := e.config.verify(e.bundle); err != nil {
		return fmt.Errorf("%s: %w", e.dir, err)
	}
	e.idKeys = newIDKeys(e.bundle)
	free, total, err := e.files.Space(e.dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", e.dir, err)
	}
	e.reserve = reserveFor(total)
	if !e.frozen {
		if err := e.dropTemps(); err != nil {
			e.log.Warn("what a repair left is not removed", "err", err)
		}
	}
	return e.startIndex(free >= e.reserve.open())
}

// startIndex opens the index and reads what it lacks; one that is damaged is made anew.
func (e *engine) startIndex(onDisk bool) error {
	if e.frozen {
		return e.useIndex("", true)
	}
	if !onDisk {
		e.log.Warn("the disk is nearly full: the index is kept in memory for this run", "store", e.dir)
		return e.useIndex("", true)
	}
	dir, err := currentIndex(e.dir)
	if err != nil {
		return err
	}
	if dir != "" {
		err = e.useIndex(dir, false)
		if err == nil || !errors.Is(err, errIndexBroken) {
			return err
		}
		e.log.Warn("the index is damaged and is made anew from the volumes", "err", err)
	}
	if err = e.freshIndex(nil); errors.Is(err, ErrNoSpace) {
		e.log.Warn("the index is kept in memory for this run", "store", e.dir, "err", err)
		return e.useIndex("", true)
	}
	return err
}

// useIndex opens an index, loads what it holds and brings it up to date.
func (e *engine) useIndex(dir string, all bool) error {
	x, err := openIndex(dir, e.bundle, e.reserve.memtable, e.log)
	if err != nil {
		return err
	}
	cat, f, err := loadIndex(x, e.bundle.AppendOnly())
	if err == nil {
		err = e.ownIndex()
	}
	if err == nil {
		err = e.syncIndex(x, cat, f, all, nil)
	}
	if err != nil {
		return errors.Join(err, x.close())
	}
	absent, err := loadSessions(x)
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", errIndexBroken, err), x.close())
	}
	e.install(x, cat, f)
	e.absent = absent
	e.buryDead()
	return nil
}

// ownIndex gives the index to the owner of the store, also while root uses it: after a crash the owner must at least be
// able to remove it.
func (e *engine) ownIndex() error {
	f, ok := e.files.(osFiles)
	if !ok || e.idx != nil && e.idx.inMemory() || e.frozen {
		return nil
	}
	return f.ownTree(filepath.Join(e.dir, indexName))
}

// install makes an index with what it holds the engine's.
func (e *engine) install(x *index, cat *catalogue, f *fold) {
	e.idx, e.fold = x, f
	for id, v := range cat.byID {
		_, v.dropped = f.dropped[id]
		if v.missing && !v.dropped {
			e.log.Warn("volume is missing", "volume", id)
		}
	}
	found, verified := e.loadDamage(x, cat), e.loadVerified(x, cat)
	e.mu.Lock()
	var left [][2][]byte
	if e.volumes != nil {
		e.coarsenPins()
		left = cat.takeUnfinished(e.volumes)
	}
	e.volumes, e.damage, e.verified = cat, found, verified
	clear(e.pending) // their places have the short numbers of the index before; all they tell of was read from the volumes
	e.mu.Unlock()
	if err := x.setAll(left); err != nil {
		e.log.Warn("unfinished work not noted in the index", "err", err)
	}
	e.findOrphans()
	e.publish()
}

// loadIndex reads the catalogue of volumes and the fold.
func loadIndex(x *index, admin ed25519.PublicKey) (*catalogue, *fold, error) {
	version, err := x.get(metaKey("version"))
	if err != nil {
		return nil, nil, err
	}
	if len(version) != 1 || version[0] != indexVersion {
		if version != nil || !x.inMemory() {
			return nil, nil, fmt.Errorf("%w: of version %v", errIndexBroken, version)
		}
	}
	cat, err := loadCatalogue(x)
	if err != nil {
		return nil, nil, err
	}
	f := newFold()
	f.admin = admin
	for _, prefix := range []byte{keySnapshot, keyDataset, keyRecord, keyMeta} {
		if err := x.each([]byte{prefix}, f.load); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errIndexBroken, err)
		}
	}
	return cat, f, nil
}

// discardLog is where messages go that nobody wants.
func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
