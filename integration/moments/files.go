package moments

import (
	"os"
	"path/filepath"
	"strings"
)

// File is what can be seen of a file among the volumes without a key.
type File struct {
	Kind   string // of the label: data, metadata, journal; "": none yet, or no volume
	Size   int64
	Sealed bool // it ends with a trailer
}

// Files are the volumes of a store, by name.
type Files map[string]File

// Look reads the labels and the ends of all volumes.
func Look(store string) (Files, error) {
	dir := filepath.Join(store, "volumes")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := Files{}
	for _, e := range entries {
		files[e.Name()] = look(filepath.Join(dir, e.Name()))
	}
	return files, nil
}

const trailerSize = 80

func look(path string) (out File) {
	f, err := os.Open(path)
	if err != nil {
		return File{}
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		out.Size = info.Size()
	}
	label := make([]byte, 512)
	n, _ := f.ReadAt(label, 0) // less than that has no kind
	for line := range strings.Lines(string(label[:n])) {
		if kind, ok := strings.CutPrefix(strings.TrimSpace(line), "kind "); ok {
			out.Kind = kind
		}
	}
	trailer := make([]byte, 8)
	if out.Size > trailerSize {
		_, err = f.ReadAt(trailer, out.Size-trailerSize)
		out.Sealed = err == nil && string(trailer) == "snapfsTR"
	}
	return out
}

// Change is what came and went between two looks.
type Change struct {
	Data, Nodes, Journals int // volumes that came
	Other                 int // files that came and are no volumes (yet)
	Sealed                int // volumes that came and are complete, journals apart
	JournalSealed         bool
	Gone                  int
}

// Since tells what differs from an earlier look.
func (now Files) Since(before Files) (c Change) {
	for name, f := range now {
		if _, there := before[name]; there {
			continue
		}
		switch f.Kind {
		case "data":
			c.Data++
		case "metadata":
			c.Nodes++
		case "journal":
			c.Journals++
			c.JournalSealed = c.JournalSealed || f.Sealed
		default:
			c.Other++
		}
		if f.Sealed && f.Kind != "journal" {
			c.Sealed++
		}
	}
	for name := range before {
		if _, there := now[name]; !there {
			c.Gone++
		}
	}
	return c
}

// The phases of a backup. The fact is on stable storage before the index is written, and volumes are sealed after that.
const (
	BackupScan    = "0 scan"
	BackupData    = "1 data"
	BackupNodes   = "2 nodes"
	BackupFact    = "3 before the commit fact"
	BackupIndex   = "4 after the commit fact, index batch"
	BackupSealing = "5 sealing volumes"
	BackupSealed  = "6 volumes sealed"
)

// OfBackup is what a backup was doing; committed tells whether its snapshot is there.
func (c Change) OfBackup(committed bool) string {
	switch {
	case committed && c.JournalSealed:
		return BackupSealed
	case committed && (c.Sealed > 0 || c.Gone > 0):
		return BackupSealing
	case committed:
		return BackupIndex
	case c.Journals > 0:
		return BackupFact
	case c.Nodes > 0:
		return BackupNodes
	case c.Data > 0 || c.Other > 0:
		return BackupData
	}
	return BackupScan
}

// The phases of a job that only changes facts.
const (
	FactsBegin  = "0 before the journal"
	FactsBefore = "1 before the fact"
	FactsAfter  = "2 after the fact, index batch"
	FactsSealed = "3 journal sealed"
)

// OfFacts is what a job was doing that only changes facts.
func (c Change) OfFacts(done bool) string {
	switch {
	case done && c.JournalSealed:
		return FactsSealed
	case done:
		return FactsAfter
	case c.Journals > 0 || c.Other > 0:
		return FactsBefore
	}
	return FactsBegin
}

// The phases of a prune, the merging of small volumes or a checkpoint.
const (
	WorkLooks    = "0 looking"
	WorkWrites   = "1 writing volumes"
	WorkFacts    = "2 facts"
	WorkBoth     = "3 facts beside new volumes"
	WorkRemoves  = "4 removing volumes"
	WorkIsSealed = "5 journal sealed"
)

// OfMaintenance is what a prune, the merging of small volumes or a checkpoint was doing.
func (c Change) OfMaintenance() string {
	switch {
	case c.JournalSealed:
		return WorkIsSealed
	case c.Gone > 0:
		return WorkRemoves
	case c.Journals > 0 && c.Data+c.Nodes > 0:
		return WorkBoth
	case c.Journals > 0:
		return WorkFacts
	case c.Data+c.Nodes+c.Other > 0:
		return WorkWrites
	}
	return WorkLooks
}
