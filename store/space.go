package store

import (
	"errors"
	"fmt"
	"syscall"

	"snapfs/store/volume"
)

// Badger maps its files: on a full disk it does not return an error, the process is killed by SIGBUS. So nobody writes
// when little is left, and an index is not even opened on disk when next to nothing is. What "little" means
// follows from the size of Badger's memory tables, which follows from the size of the file system.
type reserve struct {
	memtable int64 // bytes
}

// reserveFor sizes the index and the reserves for a file system of so many bytes.
func reserveFor(total int64) reserve {
	return reserve{memtable: min(max(total/64, 1<<20), 32<<20)}
}

// volumes is what must be free to append another frame.
func (r reserve) volumes() int64 { return 5 * r.memtable }

// index is what must be free to write to the index: below it volumes alone hold what is new.
func (r reserve) index() int64 { return 3 * r.memtable }

// open is what must be free to open the index on disk: below it, it lives in memory for this run.
func (r reserve) open() int64 { return 5 * r.memtable / 2 }

// enoughSpace refuses to begin another frame on a nearly full disk: volumes that are open must still find room for their
// parity, those of data and metadata at the same time.
func (e *engine) enoughSpace() error {
	return e.atLeast(max(e.reserve.volumes(), 2*volume.ParitySpace(e.config.parity())+1<<20))
}

// enoughFactSpace refuses to write facts on a nearly full disk, but for those that lead to more space.
func (e *engine) enoughFactSpace() error {
	if e.lowSpace.Load() > 0 {
		return nil
	}
	return e.enoughSpace()
}

// enoughIndexSpace refuses to write to the index on a nearly full disk.
func (e *engine) enoughIndexSpace() error {
	if e.idx.inMemory() {
		return nil
	}
	return e.atLeast(e.reserve.index())
}

// enoughForIndex refuses to make a new index on a nearly full disk, whatever the present one is kept in. It takes more to begin than to
// go on.
func (e *engine) enoughForIndex(begun bool) error {
	want := e.reserve.volumes()
	if begun {
		want = e.reserve.index()
	}
	if err := e.atLeast(want); err != nil {
		return fmt.Errorf("the index cannot be made anew: %w", err)
	}
	return nil
}

func (e *engine) atLeast(want int64) error {
	free, _, err := e.files.Space(e.dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", e.dir, err)
	}
	if free < want {
		return fmt.Errorf("%w: %d MiB left below %s, %d MiB are kept free", ErrNoSpace, free>>20, e.dir, want>>20)
	}
	return nil
}

// diskFull adds ErrNoSpace to the operating system's error of that meaning.
func diskFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
