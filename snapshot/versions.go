package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"snapfs/store"
)

// Version is one state of a path over time.
type Version struct {
	Path      string
	Entry     *Entry   // as in the oldest of Snapshots, followed if linked
	Snapshots []Listed // that have it, oldest first
}

// Versions returns the distinct states of a path (below the snapshots' directory) over time, in the order of their
// first appearance. A state is content and attributes, those that Diff compares; a directory's includes all below it.
// Snapshots that do not have the path are passed over. What the path leads through is read only where it differs from
// the snapshot before.
//
// Snapshots that cannot be read because stored data is damaged are left out; their errors come joined beside the
// versions found. progress (nil for none) is told how many snapshots have been looked into.
func Versions(ctx context.Context, st Store, snapshots []Listed, path string, progress func(done int)) ([]Version, error) {
	h := history{path: cleanPath(path), states: map[string]int{}}
	cache := NewCache(0)
	for i := range snapshots {
		s := &snapshots[i]
		if progress != nil {
			progress(i)
		}
		err := h.snapshot(ctx, st, s, cache)
		if err == nil {
			continue
		}
		h.last = visit{}
		if err = (&PathError{Op: "look into", Path: s.Ref(), Err: err}); !h.damage.take(ctx, err) {
			return nil, err
		}
	}
	return h.versions, h.damage.err()
}

func cleanPath(p string) string { return path.Clean("/" + p) }

// history collects the versions of a path.
type history struct {
	path     string
	versions []Version
	states   map[string]int // state -> index in versions
	damage   damage
	last     visit // the snapshot before
}

// visit is what one snapshot has at the path.
type visit struct {
	tree    *Tree
	trail   []trailStep // directories on the way, from the root
	found   Found       // no Entry: nothing there
	state   string
	version int
}

// trailStep is a directory as far as what lies below depends on it.
type trailStep struct {
	page store.ID
	fs   uint32
}

func (h *history) snapshot(ctx context.Context, st Store, s *Listed, cache *Cache) error {
	tree, err := OpenTree(ctx, st, st.PageKey(), s.ID, cache)
	if err != nil {
		return err
	}
	v := visit{tree: tree}
	if err := h.find(ctx, &v); err != nil {
		return err
	}
	if v.found.Entry != nil {
		if err := h.add(ctx, &v, s); err != nil {
			return err
		}
	}
	h.last = v
	return nil
}

// find looks the path up as far as the way differs from the last one's.
func (h *history) find(ctx context.Context, v *visit) error {
	at := v.tree.Root()
	for name := range strings.SplitSeq(strings.Trim(h.path, "/"), "/") {
		if name == "" {
			break
		}
		step := trailStep{at.Dir, at.FS}
		i := len(v.trail)
		if i < len(h.last.trail) && h.last.trail[i] == step {
			v.trail, v.found = append(v.trail, h.last.trail[i:]...), h.last.found
			return nil
		}
		v.trail = append(v.trail, step)
		next, err := v.tree.Lookup(ctx, at, name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil
		}
		if err != nil {
			return err
		}
		at = next
	}
	v.found = at
	return nil
}

// add puts the snapshot to the version it has.
func (h *history) add(ctx context.Context, v *visit, s *Listed) error {
	f, err := v.tree.Follow(ctx, v.found)
	if err != nil {
		return err
	}
	v.state = stateOf(v.tree, f.Entry)
	known := true
	if v.version, known = h.states[v.state]; !known {
		same, err := h.sameBelow(ctx, v)
		if err != nil {
			return err
		}
		if v.version = h.last.version; !same {
			v.version = len(h.versions)
			h.versions = append(h.versions, Version{Path: h.path, Entry: f.Entry})
		}
		h.states[v.state] = v.version
	}
	version := &h.versions[v.version]
	version.Snapshots = append(version.Snapshots, *s)
	return nil
}

var errDiffers = errors.New("differs")

// sameBelow compares with the snapshot before when both have a directory: nodes can differ without a difference to
// report.
func (h *history) sameBelow(ctx context.Context, v *visit) (bool, error) {
	last := &h.last
	if last.found.Entry == nil || last.found.Type != TypeDir || v.found.Type != TypeDir {
		return false, nil
	}
	err := Diff(ctx, last.tree, h.path, v.tree, h.path, func(Change) error { return errDiffers })
	if err == errDiffers {
		return false, nil
	}
	return err == nil, err
}

// stateOf encodes what makes a state: what Diff compares, of a directory also what is below it.
func stateOf(t *Tree, e *Entry) string {
	b := []byte{byte(e.Type)}
	for _, n := range []uint64{
		uint64(e.Mode), uint64(e.Flags), uint64(e.UID), uint64(e.GID), uint64(e.Mtime.Sec), uint64(e.Mtime.Nsec),
		uint64(e.Size), e.Rdev,
	} {
		b = binary.AppendUvarint(b, n)
	}
	for _, s := range []string{e.User, e.Group, e.Target} {
		b = store.AppendBytes(b, []byte(s))
	}
	b = append(b, e.XattrsID[:]...)
	b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
	for _, x := range e.Xattrs {
		b = store.AppendBytes(store.AppendBytes(b, []byte(x.Name)), x.Value)
	}
	b = append(b, e.Content.List[:]...)
	for _, it := range e.Content.Items {
		b = binary.AppendUvarint(append(b, it.ID[:]...), uint64(it.Length))
	}
	if e.Type == TypeDir {
		b = append(b, e.Dir[:]...)
		b = binary.AppendUvarint(b, uint64(e.FS))
	}
	if e.Type == TypeDir && e.Totals.Linked > 0 {
		links := t.LinkTree()
		b = append(b, links[:]...)
	}
	return string(b)
}

// DatasetPath is where a source path is found in a dataset.
type DatasetPath struct {
	Dataset   string
	Path      string   // below the directory of Snapshots
	Snapshots []Listed // whose sources cover it, oldest first
}

// Covering finds in which datasets, and where in them, an absolute source path is: one result for each dataset and
// path, by dataset, then path. Whether the snapshots really have it (it may have been excluded) is not looked at.
func Covering(ctx context.Context, st Store, abs string) ([]DatasetPath, error) {
	listed, err := List(ctx, st, Filter{})
	if err != nil {
		return nil, err
	}
	abs = cleanPath(abs)
	var found []DatasetPath
	for _, l := range listed {
		below, ok := l.Summary.locate(abs)
		if !ok {
			continue
		}
		i, known := slices.BinarySearchFunc(found, DatasetPath{Dataset: l.Dataset, Path: below}, compareDatasetPath)
		if !known {
			found = slices.Insert(found, i, DatasetPath{Dataset: l.Dataset, Path: below})
		}
		found[i].Snapshots = append(found[i].Snapshots, l)
	}
	return found, nil
}

func compareDatasetPath(a, b DatasetPath) int {
	if c := strings.Compare(a.Dataset, b.Dataset); c != 0 {
		return c
	}
	return strings.Compare(a.Path, b.Path)
}

// locate returns where in the snapshot a source path is, if a source covers it.
func (s *Summary) locate(abs string) (below string, ok bool) {
	for _, p := range s.Paths {
		rest, inside := strings.CutPrefix(abs, strings.TrimSuffix(p, "/"))
		if !inside || rest != "" && rest[0] != '/' {
			continue
		}
		switch {
		case s.Single:
			return cleanPath(rest), true
		case len(s.Paths) == 1: // a single file, under its base name
			return cleanPath(path.Base(p) + rest), true
		}
		return abs, true
	}
	return "", false
}
