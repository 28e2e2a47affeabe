package archive

import (
	"context"
	"fmt"
	"path"
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
			fmt.Fprintf(&b, "  %s (%s, id %x)%s\n", c.Name, c.Level, c.ID, after(" ", c.Location))
			listVolumes(&b, c)
		}
	}
	fmt.Fprintf(&b, "\nSnapshots in it:\n")
	for _, a := range s.Snapshots {
		fmt.Fprintf(&b, "  %s@%s  %s\n", a.Dataset, a.Name, a.ID)
	}
	b.WriteString("\nTo get a snapshot back, with snapfs, the volumes and what unlocks them (no store is needed):\n\n")
	fmt.Fprintf(&b, "  snapfs archive restore %s \\\n", exampleOf(s))
	for _, from := range placesOf(chain) {
		fmt.Fprintf(&b, "    --from %s \\\n", shellWord(from))
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

// placesOf are the arguments with which sets are read, each once: the directories where their volumes are, files and devices by themselves, and a word
// for what was changed between volumes or went into a pipe.
func placesOf(chain []*store.ArchiveSet) (list []string) {
	for _, s := range chain {
		met := map[string]bool{}
		var own []string
		for _, v := range s.Volumes {
			place := placeOf(s, &v)
			if place == "" || place == v.Where && met[place] {
				own = nil
				break
			}
			if !met[place] {
				met[place], own = true, append(own, place)
			}
		}
		if own == nil {
			own = []string{"VOLUMES-OF-" + s.Name}
		}
		for _, place := range own {
			list = appendNew(list, place)
		}
	}
	return list
}

// placeOf is the directory of a volume that has its own name there, the file or device that is one volume, or "".
func placeOf(s *store.ArchiveSet, v *store.ArchiveVolume) string {
	dir, base := path.Split(v.Where)
	switch {
	case dir == "":
		return "" // standard output
	case strings.HasPrefix(base, s.Name+"-") && strings.HasSuffix(base, Suffix):
		return path.Clean(dir)
	}
	return v.Where
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%=", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// after is a text behind another, if there is one.
func after(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
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
