package snapshot

import (
	"errors"
	"fmt"

	"snapfs/store"
)

// Reading.
var (
	// ErrMalformed: a stored node or manifest is not what its format demands.
	ErrMalformed = errors.New("malformed")
	// ErrNoPosition: nothing in the snapshot has that position.
	ErrNoPosition = errors.New("no such position in the snapshot")
)

// Writing.
var (
	// ErrTooManyEntries: a snapshot holds at most 2^31-1 names.
	ErrTooManyEntries = errors.New("more than 2147483647 entries")
	// ErrName: a name is empty, ".", "..", or holds "/" or NUL.
	ErrName = errors.New("not a file name")
	// ErrOrder: names must be added in strict byte order.
	ErrOrder = errors.New("names out of order")
	// ErrEntry: an entry cannot be represented.
	ErrEntry = errors.New("invalid entry")
)

// NodeError says which blob could not be used. Err wraps ErrMalformed, store.ErrNewerFormat, or what reading gave.
type NodeError struct {
	Kind store.Kind
	ID   store.ID
	Err  error
}

func (e *NodeError) Error() string {
	word := "node"
	switch e.Kind {
	case store.KindManifest:
		word = "manifest"
	case store.KindXattrs:
		word = "attribute set"
	case store.KindChunk:
		word = "chunk"
	}
	return fmt.Sprintf("%s %s: %v", word, e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *NodeError) Unwrap() error { return e.Err }

// malformed makes an ErrMalformed that says why.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
