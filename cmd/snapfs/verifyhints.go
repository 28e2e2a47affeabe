package main

import (
	"slices"
	"strings"

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
	if v.stored && !v.lost() && (v.left(store.ProblemMissing, store.ProblemForeign) || v.damaged()) {
		list = append(list, "nothing that was saved is lost any more: another 'snapfs verify --repair' drops or replaces the volumes that are not whole")
	} else {
		list = append(list, v.damageHints()...)
	}
	if v.left(store.ProblemFacts) {
		list = append(list, v.factsHint())
	}
	if !v.misnamed() && v.left(store.ProblemCutOff) {
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

// damageHints are about volumes and bytes that are not what was written, and what needs them.
func (v *verifyReport) damageHints() (list []string) {
	mendable := v.damaged() && !v.repair
	switch {
	case mendable && v.paths > 0:
		list = append(list, "'snapfs verify --repair' mends what parity can bring back; the next backup stores anew what the source still has")
	case mendable:
		list = append(list, "'snapfs verify --repair' mends what parity can bring back")
	}
	if v.left(store.ProblemMissing, store.ProblemForeign) {
		list = append(list, v.volumeHint())
	}
	switch {
	case v.paths > 0 && !v.misnamed() && !mendable:
		list = append(list, v.sourceHint(), v.giveUpHint())
	case v.paths == 0 && v.repair && !v.barred && v.lost() && v.left(store.ProblemFrame):
		list = append(list, "no snapshot needs what is damaged; if an interrupted backup does, run it again: then 'snapfs verify --repair' drops it")
	}
	return list
}

// misnamed reports whether only a repair, which puts names right, shows what is lost.
func (v *verifyReport) misnamed() bool { return v.left(store.ProblemForeign) && !v.repair }

// sourceHint is about what no volume of the store holds whole.
func (v *verifyReport) sourceHint() string {
	const text = " what the source still has; all other files and snapshots can be read"
	if v.source {
		return "the next backup stores anew" + text
	}
	return "'snapfs verify --repair --from-source' and the next backup store anew" + text
}

// snapshotsInHint is how many snapshots a hint names.
const snapshotsInHint = 8

// giveUpHint is the way out of the store for what comes back from nowhere.
func (v *verifyReport) giveUpHint() string {
	var ids []string
	for _, s := range v.hit {
		if !s.Forgotten {
			ids = append(ids, shortID(s.ID))
		}
	}
	const end = "'snapfs prune' and 'snapfs verify --repair'"
	if len(ids) == 0 {
		return "only forgotten snapshots need it: it is given up with " + end
	}
	names := strings.Join(ids, " ")
	if len(ids) > snapshotsInHint {
		names = "ID...' ('snapfs verify --json' lists them)"
	} else {
		names += "'"
	}
	return "what none of this brings back is given up with the " + count(int64(len(ids)), "snapshot that needs it", "snapshots that need it") +
		": 'snapfs forget " + names + ", then " + end
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
	const rename = "'snapfs verify --repair' gives volumes that lie there under another name their own"
	switch {
	case v.paths == 0 && v.repair:
		return "no snapshot needs the volumes that are missing: a repair strikes them off as soon as nothing else is damaged"
	case v.paths == 0:
		return rename + ", and strikes off those that no snapshot needs"
	case v.repair:
		return "volumes that are missing can be put back from a copy of the store, into its directory 'volumes'"
	}
	return rename + "; others can be put back from a copy of the store, into its directory 'volumes'"
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
