package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"snapfs/store"
)

// Sheet is the text about a set that is printed and kept with the media: labels in order, where they are, what is in it, and how to get
// it back.
func (list Sets) Sheet(s *store.ArchiveSet, storeID [16]byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "snapfs archive set %s\n%slevel    %s\npool     %s\nstore    %x\nbegun    %s\n", s.Name, sheetID(s), s.Level, s.Pool,
		storeID, stamp(s.Started))
	fmt.Fprintf(&b, "finished %s\nkeep     %s\n", orElse(stamp(s.Finished), "not finished"), orElse(stamp(s.KeepUntil), "for ever"))
	if s.Location != "" {
		fmt.Fprintf(&b, "where    %s\n", s.Location)
	}
	b.WriteString("\nVolumes, in order:\n")
	listVolumes(&b, s)
	chain, ok := list.Chain(s)
	if len(chain) > 1 || !ok {
		b.WriteString("\nBuilds on, and needs beside it (read this set first, then these in this order):\n")
		for _, c := range chain[min(1, len(chain)):] {
			at := ""
			if c.Location != "" {
				at = ", " + c.Location
			}
			fmt.Fprintf(&b, "  %s (%s, id %x)%s\n", c.Name, c.Level, c.ID, at)
			listVolumes(&b, c)
		}
	}
	fmt.Fprintf(&b, "\nSnapshots in it:\n")
	for _, a := range s.Snapshots {
		fmt.Fprintf(&b, "  %s@%s  %s\n", a.Dataset, a.Name, a.ID)
	}
	b.WriteString("\nTo get a snapshot back, with snapfs, the volumes and what unlocks them (no store is needed):\n\n")
	fmt.Fprintf(&b, "  snapfs archive restore %s \\\n", exampleOf(s))
	for _, place := range placesOfAll(chain) {
		fmt.Fprintf(&b, "    --from %s \\\n", place)
	}
	own := strings.Join(placesOf(s), " ")
	fmt.Fprintf(&b, "    --to DIRECTORY\n\nTo see what the volumes are, and what is in them:\n\n  snapfs archive info %s\n  snapfs archive ls %s\n", own, own)
	return b.String()
}

func listVolumes(b *strings.Builder, s *store.ArchiveSet) {
	for _, v := range s.Volumes {
		what := ""
		if v.Parity {
			what = ", parity over the others"
		}
		if v.Torn {
			what = ", without trailer: the medium was full"
		}
		fmt.Fprintf(b, "  %4d  %s  %d bytes%s\n        %s\n", v.Number, v.ID, v.Size, what, v.Where)
	}
}

func exampleOf(s *store.ArchiveSet) string {
	if len(s.Snapshots) == 0 {
		return "SNAP"
	}
	last := s.Snapshots[len(s.Snapshots)-1]
	return last.Dataset + "@" + last.Name
}

// placesOfAll are those of several sets, each once.
func placesOfAll(chain []*store.ArchiveSet) (places []string) {
	for _, c := range chain {
		for _, place := range placesOf(c) {
			places = appendNew(places, place)
		}
	}
	return places
}

// placesOf are the directories of a set's volumes, or the files and devices that hold one each, for a shell; a word for the volumes where that is
// not known, or another medium is there by now.
func placesOf(s *store.ArchiveSet) (places []string) {
	seen := map[string]bool{}
	for _, v := range s.Volumes {
		if !filepath.IsAbs(v.Where) || seen[v.Where] {
			return []string{"VOLUMES-OF-" + s.Name}
		}
		seen[v.Where] = true
		dir, file := filepath.Split(v.Where)
		if strings.HasPrefix(file, s.Name+"-") && strings.HasSuffix(file, Suffix) {
			places = appendNew(places, shellWord(filepath.Clean(dir)))
		} else {
			places = appendNew(places, shellWord(v.Where))
		}
	}
	if len(places) == 0 {
		return []string{"VOLUMES-OF-" + s.Name}
	}
	return places
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9/._@%+=:,-]+$`)

// shellWord quotes what a shell would not take as it is.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// stamp is a time for people and programs alike, "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// writeSheet puts the text with the volumes.
func (w *setWriter) writeSheet(ctx context.Context) (string, error) {
	state, err := w.st.State(ctx)
	if err != nil {
		return "", err
	}
	return w.target.Sheet(w.set.Name, Sets(state.Archives).Sheet(&w.set, w.st.ID()))
}

// On lists the sets that need s, and s itself, as far as they are finished and have not expired.
func (list Sets) On(s *store.ArchiveSet) (sets []*store.ArchiveSet) {
	for i := range list {
		t := &list[i]
		chain, _ := list.Chain(t)
		if t.Expired.IsZero() && !t.Finished.IsZero() && slices.ContainsFunc(chain, func(c *store.ArchiveSet) bool { return c.ID == s.ID }) {
			sets = append(sets, t)
		}
	}
	return sets
}

// RewriteSheet brings the text about a set up to date where it lies with the volumes. What is there and is not that text stays. Errors: those of
// files, fs.ErrNotExist if it lies at none of these places; none if there never was a place for it.
func (list Sets) RewriteSheet(s *store.ArchiveSet, storeID [16]byte) error {
	var places []string
	for _, v := range s.Volumes {
		info, err := os.Stat(v.Where)
		if filepath.IsAbs(v.Where) && (err != nil || info.Mode().IsRegular()) {
			places = appendNew(places, filepath.Join(filepath.Dir(v.Where), s.Name+".txt"))
			places = appendNew(places, v.Where+".txt")
		}
	}
	found, missing := false, error(nil)
	for _, path := range places {
		text, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = cmp.Or(missing, err)
			continue
		case err != nil:
			return err
		case !strings.Contains(string(text), sheetID(s)):
			continue
		}
		found = true
		if err := writeSheet(path, list.Sheet(s, storeID)); err != nil {
			return err
		}
	}
	if found {
		return nil
	}
	return missing
}

// sheetID is the line of the text that says which set it is about.
func sheetID(s *store.ArchiveSet) string { return fmt.Sprintf("\nid       %x\n", s.ID) }
