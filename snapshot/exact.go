package snapshot

import (
	"context"
	"fmt"
	"strings"
	"time"

	"snapfs/store"
)

// ForgottenError is a reference to a snapshot that is forgotten and not yet pruned.
type ForgottenError struct {
	Ref      string
	Snapshot store.Snapshot
}

func (e *ForgottenError) Error() string { return e.Ref + ": this snapshot is forgotten" }

// InexactError is a reference that may mean another snapshot tomorrow, where only one that cannot will do. It is an ErrSyntax.
type InexactError struct{ Ref string }

func (e *InexactError) Error() string {
	return fmt.Sprintf("%q does not name one snapshot for good: want an ID or DATASET@NAME", e.Ref)
}

// Is makes errors.Is(err, ErrSyntax) true.
func (e *InexactError) Is(target error) bool { return target == ErrSyntax }

// ResolveExact finds what each of refs names, a prefix of an ID or DATASET@NAME, forgotten or not. Anything that could
// name another snapshot at another time is refused.
//
// Errors: *InexactError, *UnknownError, *AmbiguousError.
func ResolveExact(ctx context.Context, st Store, refs ...string) ([]Listed, error) {
	state, err := st.State(ctx)
	if err != nil {
		return nil, err
	}
	complete := timeline(state, func(s *store.Snapshot) bool { return !s.Partial })
	whole := wholeNames(complete)
	found := make([]Listed, 0, len(refs))
	for _, ref := range refs {
		s, ok := whole[ref]
		if !ok {
			r := resolver{state: state, ref: ref, snapshots: complete}
			if s, err = r.exact(); err != nil {
				return nil, err
			}
		}
		l, err := withSummary(*s)
		if err != nil {
			return nil, err
		}
		found = append(found, l)
	}
	return found, nil
}

// wholeNames finds snapshots by ID in full and DATASET@NAME: scripts give thousands of them.
func wholeNames(list []store.Snapshot) map[string]*store.Snapshot {
	m := make(map[string]*store.Snapshot, 2*len(list))
	for i := range list {
		s := &list[i]
		m[s.ID.String()], m[s.Dataset+"@"+s.Name] = s, s
	}
	return m
}

// isExact reports whether a reference cannot mean another snapshot at another time: a prefix of an ID, DATASET@NAME.
func isExact(ref string) bool {
	_, name, found := strings.Cut(ref, "@")
	return found && IsSnapshotName(name) || !found && isIDPrefix(ref)
}

func (r *resolver) exact() (*store.Snapshot, error) {
	dataset, name, found := strings.Cut(r.ref, "@")
	switch {
	case !isExact(r.ref):
		return nil, &InexactError{r.ref}
	case found:
		return r.at(dataset, name, time.Time{}, time.UTC)
	}
	return r.byID()
}

// orForgotten turns an error about something that is not there into one that says that it is forgotten, if it is: the
// only one that accept agrees to.
func (r *resolver) orForgotten(unknown error, accept func(*store.Snapshot) bool) error {
	var found []store.Snapshot
	for _, s := range timeline(r.state, (&Filter{Forgotten: true}).accepts) {
		if accept(&s) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		return unknown
	}
	return &ForgottenError{Ref: r.ref, Snapshot: found[0]}
}
