package main

import (
	"fmt"
	"strings"

	"snapfs/snapshot"
	"snapfs/snapshot/backup"
	"snapfs/store"
)

// backupProgress is progress in JSON.
type backupProgress struct {
	Event       string `json:"event"`
	Entries     int64  `json:"entries"`
	Files       int64  `json:"files"`
	Bytes       int64  `json:"bytes"`
	BytesTotal  int64  `json:"bytes_total,omitempty"` // guessed from the last snapshot
	BytesRead   int64  `json:"bytes_read"`
	BytesStored int64  `json:"bytes_stored"`
	Errors      int64  `json:"errors"`
	jsonPath
}

func newBackupProgress(g backup.Progress, expected int64) backupProgress {
	return backupProgress{"progress", g.Entries, g.Files, g.Bytes, expected, g.BytesRead, g.BytesStored, g.Errors, newJSONPath(g.Current)}
}

func backupLine(r *reporter, g backup.Progress, expected int64) string {
	line := fmt.Sprintf("%s, %s, %s", count(g.Files, "file", "files"), formatSize(g.Bytes), r.pace(g.Bytes, expected))
	if g.Errors > 0 {
		line += ", " + count(g.Errors, "error", "errors")
	}
	return line + "  " + g.Current
}

// backupSummary is the last object of a backup's JSON.
type backupSummary struct {
	Event         string          `json:"event"`
	Snapshot      *string         `json:"snapshot"` // null when there is none: --dry-run, or the command failed
	Name          *string         `json:"name"`
	Dataset       string          `json:"dataset"`
	Parent        *string         `json:"parent"`
	Entries       int64           `json:"entries"`
	New           int64           `json:"new"`
	Changed       int64           `json:"changed"`
	Unchanged     int64           `json:"unchanged"`
	Removed       int64           `json:"removed"`
	Unstable      int64           `json:"unstable"`
	Bytes         int64           `json:"bytes"`
	BytesRead     int64           `json:"bytes_read"`
	BytesStored   int64           `json:"bytes_stored"`
	Seconds       float64         `json:"seconds"`
	Errors        int64           `json:"errors"`
	Suspicious    []unusualObject `json:"suspicious,omitempty"` // why the snapshot has this tag
	Skipped       bool            `json:"skipped,omitempty"`    // nothing had changed: snapshot is the parent
	DryRun        bool            `json:"dry_run,omitempty"`
	Head          *string         `json:"head"` // newest fact of the store then: for verify --head; null when there is no snapshot
	CommandStatus *int            `json:"command_status,omitempty"`
}

func newBackupSummary(r *backup.Result, o backupOptions) backupSummary {
	s := backupSummary{
		Event: "summary", Snapshot: optionalID(r.Snapshot.ID), Dataset: r.Dataset, Parent: optionalID(r.Parent),
		Entries: r.Entries, New: r.New, Changed: r.Changed, Unchanged: r.Unchanged, Removed: r.Removed, Unstable: r.Unstable,
		Bytes: r.Bytes, BytesRead: r.BytesRead, BytesStored: r.BytesStored, Seconds: r.Elapsed.Seconds(), Errors: r.Errors,
		Skipped: r.Skipped, DryRun: o.DryRun, Suspicious: newUnusualObjects(r.Unusual),
	}
	s.Head = optionalID(r.Snapshot.Head)
	if r.Snapshot.Name != "" {
		s.Name = &r.Snapshot.Name
	}
	if r.Skipped {
		s.Snapshot, s.Name = s.Parent, &r.ParentName
	}
	if o.stream.hasCommand() {
		s.CommandStatus = new(int)
	}
	return s
}

// unusualObject says in JSON what was unusual.
type unusualObject struct {
	What  string  `json:"what"` // encrypted, replaced or lost
	Files int64   `json:"files"`
	Of    int64   `json:"of"`
	Usual float64 `json:"usual"` // the greatest share of files in the backups before
}

func newUnusualObjects(list []backup.Unusual) (objects []unusualObject) {
	for _, u := range list {
		objects = append(objects, unusualObject{u.What, u.Files, u.Of, u.Usual})
	}
	return objects
}

// warnUnusual is no error: the backup may well be what was wanted.
func (p *program) warnUnusual(r *backup.Result) {
	if len(r.Unusual) == 0 {
		return
	}
	ref := r.Dataset + "@" + r.Snapshot.Name
	p.say("warning: %s is tagged suspicious, its source changed as never before", ref)
	for _, u := range r.Unusual {
		p.say("warning: %s", u)
	}
	p.say("hint: 'snapfs diff %s %s' shows what changed; if that is all right: 'snapfs tag %s --remove %s'",
		shortID(r.Parent), ref, ref, snapshot.TagSuspicious)
}

// optionalID is JSON's null for no ID.
func optionalID(id store.ID) *string {
	if id == (store.ID{}) {
		return nil
	}
	s := id.String()
	return &s
}

// printBackup reports a backup that has been made; its error says that some source paths are not in it.
func (p *program) printBackup(r *backup.Result, o backupOptions) error {
	p.warnUnusual(r)
	switch s := newBackupSummary(r, o); {
	case p.global.json:
		p.out.object(s)
	case p.global.quiet:
		if s.Snapshot != nil {
			p.out.print(*s.Snapshot + "\n")
		}
	default:
		p.out.print(backupText(r, o))
	}
	if r.Errors > 0 {
		return &incompleteError{r.Errors, count(r.Errors, "path", "paths") + " could not be saved"}
	}
	return nil
}

// backupText is the summary for people.
func backupText(r *backup.Result, o backupOptions) string {
	var b strings.Builder
	switch {
	case o.DryRun:
		fmt.Fprintf(&b, "nothing was saved, this would be a snapshot of %s:\n", r.Dataset)
	case r.Skipped:
		fmt.Fprintf(&b, "no snapshot of %s, nothing has changed\n", r.Dataset)
	default:
		fmt.Fprintf(&b, "snapshot %s of %s: %s@%s\n", shortID(r.Snapshot.ID), r.Dataset, r.Dataset, r.Snapshot.Name)
	}
	fmt.Fprintf(&b, "%s, %s: %s new, %s changed, %s unchanged, %s removed\n", count(r.Entries, "entry", "entries"),
		formatSize(r.Bytes), formatCount(r.New), formatCount(r.Changed), formatCount(r.Unchanged), formatCount(r.Removed))
	fmt.Fprintf(&b, "read %s, stored %s, in %s\n", formatSize(r.BytesRead), formatSize(r.BytesStored), formatElapsed(r.Elapsed))
	if r.Unstable > 0 {
		fmt.Fprintf(&b, "%s changed while being read\n", count(r.Unstable, "file", "files"))
	}
	if r.Snapshot.Head != (store.ID{}) {
		fmt.Fprintf(&b, "head %s\n", r.Snapshot.Head)
	}
	return b.String()
}
