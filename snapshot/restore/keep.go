package restore

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// Names of files that a backup obeys; package backup gives them their meaning.
const (
	cacheTag      = "CACHEDIR.TAG"
	maxIgnoreFile = 4 << 20
)

var ignoreNames = [...]string{".gitignore", ".snapfsignore"}

// keeper knows what Delete must leave alone: what the backup left out, what it could not read, and what the caller protects.
type keeper struct {
	excludes   map[string]*snapshot.Matcher // by source path
	unreadable map[string]bool              // absolute source paths
	protect    []string
	inodes     map[inode]bool // of protect
	larger     int64          // files of more bytes were not saved; 0: all were
	caches     bool           // directories with a cache tag were not saved
	ignores    bool           // ignore files were obeyed
}

type inode struct{ dev, ino uint64 }

func newKeeper(m *snapshot.Manifest, protect []string) (*keeper, error) {
	if m.ErrorCount > uint64(len(m.Errors)) {
		return nil, ErrDeleteErrors
	}
	k := &keeper{excludes: map[string]*snapshot.Matcher{}, unreadable: map[string]bool{}, inodes: map[inode]bool{},
		larger: m.ExcludeLargerThan, caches: m.ExcludeCaches, ignores: m.IgnoreFiles}
	for _, p := range m.Paths {
		matcher, err := snapshot.NewMatcher(relativePatterns(m.Excludes, p))
		if err != nil {
			return nil, fmt.Errorf("the snapshot's excludes: %w", err)
		}
		k.excludes[p] = matcher
	}
	for _, e := range m.Errors {
		k.unreadable[e.Path] = true
	}
	for _, p := range protect {
		k.protect = append(k.protect, strings.TrimSuffix(p, "/"))
		var st unix.Stat_t
		if unix.Stat(p, &st) == nil {
			k.inodes[inode{uint64(st.Dev), st.Ino}] = true
		}
	}
	return k, nil
}

// relativePatterns makes absolute patterns that begin with a source path relative to it.
func relativePatterns(lines []string, source string) []snapshot.Pattern {
	source = strings.TrimSuffix(source, "/") + "/"
	out := make([]snapshot.Pattern, len(lines))
	for i, line := range lines {
		bare, negated := strings.CutPrefix(line, "!")
		if rest, ok := strings.CutPrefix(bare, source); ok && rest != "" {
			line = "/" + rest
			if negated {
				line = "!" + line
			}
		}
		out[i] = snapshot.Pattern{Line: line}
	}
	return out
}

// keeps reports whether something that the snapshot does not hold must stay: source is its path at the source, dest
// the one here, ignore what ignore files above it say.
func (k *keeper) keeps(source, dest string, st *unix.Statx_t, ignore *snapshot.Matcher) bool {
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if k.unreadable[source] || k.excluded(source, isDir, ignore) {
		return true
	}
	if k.larger > 0 && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > uint64(k.larger) {
		return true
	}
	for _, p := range k.protect {
		if dest == p || strings.HasPrefix(dest, p+"/") {
			return true
		}
	}
	return k.inodes[inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}]
}

func (k *keeper) excluded(source string, isDir bool, ignore *snapshot.Matcher) bool {
	for p, m := range k.excludes {
		rest, ok := strings.CutPrefix(source, strings.TrimSuffix(p, "/")+"/")
		if !ok || rest == "" {
			continue
		}
		if matched, _ := m.Match(rest, isDir); matched {
			return true
		}
		if matched, _ := ignore.Match(rest, isDir); matched {
			return true
		}
	}
	return false
}

// withIgnoreFiles adds to m what the ignore files of a directory of the snapshot say, whose path at the source is given.
func (r *run) withIgnoreFiles(m *snapshot.Matcher, dir snapshot.Found, source string) *snapshot.Matcher {
	base := ""
	for p := range r.keep.excludes {
		if rest, ok := strings.CutPrefix(source+"/", strings.TrimSuffix(p, "/")+"/"); ok {
			base = strings.TrimSuffix(rest, "/")
		}
	}
	for _, name := range ignoreNames {
		f, err := r.tree.Lookup(r.ctx, dir, name)
		if err == nil {
			f, err = r.tree.Follow(r.ctx, f)
		}
		if err != nil || f.Type != snapshot.TypeFile {
			continue
		}
		data := make([]byte, min(f.Size, maxIgnoreFile))
		if n, _ := r.tree.ReadAt(r.ctx, f.Entry, data, 0); n == len(data) {
			m, _ = m.With(snapshot.ParsePatterns(data, base))
		}
	}
	return m
}

// ignoresAbove is what the ignore files above the restored Path say.
func (r *run) ignoresAbove() (m *snapshot.Matcher) {
	if r.keep == nil || !r.keep.ignores {
		return nil
	}
	for at := "/"; at != r.dest.path; {
		if dir, err := r.tree.Walk(r.ctx, at); err == nil {
			m = r.withIgnoreFiles(m, dir, r.dest.origin(at))
		}
		rest := strings.TrimPrefix(strings.TrimPrefix(r.dest.path, at), "/")
		name, _, _ := strings.Cut(rest, "/")
		at = path.Join(at, name)
	}
	return m
}

// protects reports whether a directory is one that is protected, or below one, by whatever name it was reached.
func (k *keeper) protects(f *folder) bool {
	for ; f != nil; f = f.parent {
		if k.inodes[inode{f.dev, f.ino}] {
			return true
		}
	}
	return false
}

// spares reports whether nothing at all may be deleted in a directory that the snapshot has.
func (r *run) spares(l *level, fd int) bool {
	f := l.folder
	rel := f.rel()
	if !r.Delete || r.keep.protects(f) || r.dest.only != nil || r.dest.upper(rel) || r.keep.unreadable[r.dest.source(rel)] {
		return true
	}
	base := f // the directory at the source path, whose file system is the only one
	mounted := false
	for base.parent != nil && !r.dest.upper(base.parent.rel()) {
		mounted = mounted || base.mounted
		base = base.parent
	}
	if f.dev != base.dev || mounted {
		return true
	}
	if r.keep.caches {
		_, here := statat(fd, cacheTag)
		_, then := r.tree.Lookup(r.ctx, l.dir, cacheTag)
		return here == nil || then == nil
	}
	return false
}

// mayDelete refuses what would be a disaster by mistake.
func (r *run) mayDelete(d *destination) error {
	if r.Force || d.only != nil {
		return nil
	}
	if d.dir.Totals.Entries == 0 {
		return ErrDeleteEmpty
	}
	if d.manifest.OnlyListed {
		return ErrDeleteListed
	}
	if r.InPlace && d.upper("") {
		return nil // nothing is deleted in there
	}
	var root, dest unix.Stat_t
	if unix.Stat("/", &root) == nil && unix.Stat(d.root, &dest) == nil && root.Dev == dest.Dev && root.Ino == dest.Ino {
		return ErrDeleteRoot
	}
	return nil
}
