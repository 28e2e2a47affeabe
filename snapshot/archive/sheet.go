package archive

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapfs/store"
)

// Sheet is the text about a set that is printed and kept with the media: labels in order, where they are, what is in it, and how to get
// it back.
func (list Sets) Sheet(s *store.ArchiveSet, storeID [16]byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "snapfs archive set %s\n\nid       %x\nlevel    %s\npool     %s\nstore    %x\nbegun    %s\n", s.Name, s.ID, s.Level, s.Pool,
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
			fmt.Fprintf(&b, "  %s (%s, id %x)\n", c.Name, c.Level, c.ID)
			listVolumes(&b, c)
		}
	}
	fmt.Fprintf(&b, "\nSnapshots in it:\n")
	for _, a := range s.Snapshots {
		fmt.Fprintf(&b, "  %s@%s  %s\n", a.Dataset, a.Name, a.ID)
	}
	b.WriteString("\nTo get a snapshot back, with snapfs, the volumes and what unlocks them (no store is needed):\n\n")
	fmt.Fprintf(&b, "  snapfs archive restore %s \\\n", exampleOf(s))
	for _, c := range chain {
		fmt.Fprintf(&b, "    --from %s \\\n", whereOf(c))
	}
	b.WriteString("    --to DIRECTORY\n\nTo see what a volume is, and what is in it:\n\n  snapfs archive info VOLUME\n  snapfs archive ls VOLUME\n")
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

// whereOf is the directory of a set's volumes if all are in one, else a word for them.
func whereOf(s *store.ArchiveSet) string {
	if len(s.Volumes) == 0 {
		return "VOLUMES-OF-" + s.Name
	}
	first := s.Volumes[0].Where
	at := strings.LastIndexByte(first, '/')
	if at <= 0 || slices.ContainsFunc(s.Volumes, func(v store.ArchiveVolume) bool {
		return strings.LastIndexByte(v.Where, '/') != at || v.Where[:at] != first[:at]
	}) {
		return "VOLUMES-OF-" + s.Name
	}
	return first[:at]
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
