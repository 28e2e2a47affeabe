package main

import (
	"slices"

	"snapfs/store"
)

// remainsError: what was found and not healed.
type remainsError struct {
	findings int64
	report   *verifyReport
}

func (e *remainsError) Error() string {
	text := count(e.findings, "finding", "findings")
	if n := e.report.paths; n > 0 {
		text += ", " + count(int64(n), "path", "paths") + " cannot be read whole"
	}
	return text
}

// remains is nil when nothing is left to be mended.
func (v *verifyReport) remains() error {
	if n := v.summary.Findings - v.summary.Healed; n > 0 {
		return &remainsError{n, v}
	}
	return nil
}

// left reports whether a finding of one of these kinds remains.
func (v *verifyReport) left(kinds ...store.Problem) bool {
	return slices.ContainsFunc(v.findings, func(f store.Finding) bool { return !f.Healed && slices.Contains(kinds, f.Problem) })
}

// hints says what to do next: only what may help against what is left.
func (e *remainsError) hints() (list []string) {
	v := e.report
	if v.files {
		return []string{"'snapfs verify' with a key tells which files and snapshots are hit, 'snapfs verify --repair' mends what can be mended"}
	}
	switch volumes := v.left(store.ProblemMissing, store.ProblemForeign); {
	case v.stored && !v.lost() && (volumes || v.damaged()):
		list = append(list, "nothing that was saved is lost any more: another 'snapfs verify --repair' drops or replaces the volumes that are not whole")
	default:
		if text := v.damageHint(); text != "" {
			list = append(list, text)
		}
		if volumes {
			list = append(list, v.volumeHint())
		}
	}
	if v.left(store.ProblemFacts) {
		list = append(list, v.factsHint())
	}
	if misnamed := v.left(store.ProblemForeign) && !v.repair; !misnamed && v.left(store.ProblemCutOff) {
		list = append(list, "if the volumes were put back from an older copy on purpose, 'snapfs rebuild' goes on from there; if not, put the newer ones back")
	}
	if v.left(store.ProblemHead) {
		list = append(list, "no repair brings facts back that were cut off: a copy of the store may have the volumes they are in")
	}
	if v.repair && v.barred {
		list = append(list, "with an admin's password (--admin-password-file) a repair also replaces volumes and records what is lost")
	}
	return list
}

// damageHint is about bytes that are not what was written, and what needs them.
func (v *verifyReport) damageHint() string {
	damaged := v.damaged()
	const backup = "the next backup stores anew what the source still has"
	switch {
	case damaged && !v.repair && v.paths > 0:
		return "'snapfs verify --repair' mends what parity can bring back; " + backup
	case damaged && !v.repair:
		return "'snapfs verify --repair' mends what parity can bring back"
	case !v.repair && v.left(store.ProblemForeign, store.ProblemMissing): // the volumes first
		return ""
	case v.paths > 0 && v.repair && !v.source:
		return "'snapfs verify --repair --from-source' and the next backup store anew what the source still has; all other files and snapshots can be read"
	case v.paths > 0:
		return backup + "; all other files and snapshots can be read"
	}
	return ""
}

// lost reports whether there are blobs that cannot be had.
func (v *verifyReport) lost() bool {
	return slices.ContainsFunc(v.findings, func(f store.Finding) bool { return !f.Healed && len(f.Blobs) > 0 })
}

// damaged reports whether bytes of a volume are not what was written, in a file that is that volume.
func (v *verifyReport) damaged() bool {
	other := map[string]bool{}
	for _, f := range v.findings {
		other[f.Volume.String()] = other[f.Volume.String()] || f.Problem == store.ProblemForeign
	}
	return slices.ContainsFunc(v.findings, func(f store.Finding) bool {
		switch f.Problem {
		case store.ProblemFrame, store.ProblemGap, store.ProblemLabel, store.ProblemTrailer, store.ProblemTable, store.ProblemParity, store.ProblemShort:
			return !f.Healed && !other[f.Volume.String()]
		}
		return false
	})
}

func (v *verifyReport) volumeHint() string {
	if v.repair {
		return "volumes that are missing can be put back from a copy of the store, into its directory 'volumes'"
	}
	return "'snapfs verify --repair' gives volumes that lie there under another name their own; others can be put back from a copy of the store"
}

func (v *verifyReport) factsHint() string {
	if v.repair && v.barred {
		return "put the volumes with the facts back from a copy of the store, if there is one"
	}
	if v.repair {
		return "put the volumes with the facts back from a copy of the store, if there is one; what is recorded as lost is mentioned from now on, and no failure"
	}
	return "'snapfs verify --repair' saves what the index knows of facts that are missing and records the rest as lost; a copy of the store may have their volumes"
}
