package archive

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Reading sets.
var (
	// ErrNoVolume: no volume of an archive set there.
	ErrNoVolume = errors.New("no volume of an archive set")
	// ErrOtherSet: a volume that does not belong to what is read.
	ErrOtherSet = errors.New("belongs to another set")
	// ErrOtherStore: a volume of another store, which has other keys.
	ErrOtherStore = errors.New("belongs to another store")
	// ErrOrder: volumes come through a pipe in an order in which they cannot be used.
	ErrOrder = errors.New("wrong order of volumes")
	// ErrNothing: no snapshot can be found in what was given.
	ErrNothing = errors.New("no snapshot is in these volumes")
)

// errIO is what the kernel says of sectors that cannot be read.
var errIO error = syscall.EIO

// UnreadError: a pipe, or a tape, ended with an error of the medium.
type UnreadError struct {
	Name string
	Err  error
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("%s: what comes behind cannot be read: %v", e.Name, e.Err)
}

func (e *UnreadError) Unwrap() error { return e.Err }

// ParentError: sets that hold a part of the snapshot's content were not given.
type ParentError struct {
	Set     string // whose snapshot it is
	Missing []ChainSet
	Chunks  int // that are in none of the volumes given
}

func (e *ParentError) Error() string {
	var list []string
	for _, c := range e.Missing {
		list = append(list, c.String())
	}
	return fmt.Sprintf("set %s needs volumes that were not given: %s", e.Set, strings.Join(list, "; "))
}

// NewerError: a name means, or may mean, a newer snapshot than the one whose content has been handed out: what holds it came through a pipe behind.
type NewerError struct {
	From  string // "set NAME", or a volume
	Newer string // DATASET@NAME; "": what came is damaged, nobody can tell
	Taken string // likewise, of what was handed out
}

func (e *NewerError) Error() string {
	if e.Newer == "" {
		return fmt.Sprintf("%s came behind what holds %s, and is damaged: it cannot be told whether a newer snapshot is in it", e.From, e.Taken)
	}
	return fmt.Sprintf("wrong order of volumes: %s came last and holds %s, which is newer than %s", e.From, e.Newer, e.Taken)
}

// String names the set, and where its volumes are.
func (c *ChainSet) String() string {
	name := c.Name
	if name == "" {
		name = fmt.Sprintf("%x", c.ID)
	}
	text := fmt.Sprintf("set %s (%s, %d volumes", name, c.Level, c.Volumes)
	if c.Volumes == 1 {
		text = fmt.Sprintf("set %s (%s, 1 volume", name, c.Level)
	}
	if !c.Created.IsZero() {
		text += ", written " + c.Created.Format("2006-01-02")
	}
	if c.Location != "" {
		text += ", kept at " + c.Location
	}
	return text + ")"
}
