package main

import (
	"fmt"

	"snapfs/store"
)

// verifyProgressEvent is progress in JSON.
type verifyProgressEvent struct {
	Event        string  `json:"event"`
	Phase        string  `json:"phase"`
	Volumes      int     `json:"volumes"`
	VolumesTotal int     `json:"volumes_total"`
	Frames       int64   `json:"frames"`
	Bytes        int64   `json:"bytes"`
	BytesTotal   int64   `json:"bytes_total"`
	Findings     int64   `json:"findings"`
	Seconds      float64 `json:"seconds"`
}

func (p *program) verifyProgress(r *reporter, g store.VerifyProgress) verifyProgressEvent {
	return verifyProgressEvent{
		"progress", g.Phase, g.Volumes, g.VolumesTotal, g.Frames, g.Bytes, g.BytesTotal, g.Findings, p.now().Sub(r.started).Seconds(),
	}
}

// findingEvent is something that is not as it should be: one for each blob that is hit.
type findingEvent struct {
	Event     string   `json:"event"`
	Problem   string   `json:"problem"`
	Volume    string   `json:"volume"`
	Offset    int64    `json:"offset"`
	Length    int64    `json:"length"`
	Blob      string   `json:"blob"`
	Error     string   `json:"error"`
	Snapshots []string `json:"snapshots"`
	Paths     []string `json:"paths"`
	Base64    []string `json:"paths_base64,omitempty"`
	Healed    bool     `json:"healed"`
}

// verifySummary is the last object of verify's JSON.
type verifySummary struct {
	Event     string  `json:"event"`
	Volumes   int     `json:"volumes"`
	Snapshots int     `json:"snapshots"`
	Nodes     int64   `json:"nodes"`
	Frames    int64   `json:"frames"`
	Bytes     int64   `json:"bytes"`
	Findings  int64   `json:"findings"`
	Healed    int64   `json:"healed"`
	Paths     int     `json:"paths"`
	Seconds   float64 `json:"seconds"`
}

// printVerify reports a verification; its error says that findings remain.
func (p *program) printVerify(r *reporter, v *verifyReport) error {
	seconds := p.now().Sub(r.started)
	s := v.summary
	if p.global.json {
		for _, f := range v.findings {
			v.eachEvent(f, func(e findingEvent) { r.event(e) })
		}
		p.out.object(verifySummary{
			"summary", s.Volumes, s.Snapshots, s.Nodes, s.Frames, s.Bytes, s.Findings, s.Healed, v.paths, seconds.Seconds(),
		})
		return v.remains()
	}
	for _, f := range v.findings {
		if err := p.printFinding(v, f); err != nil {
			return err
		}
	}
	if !p.global.quiet {
		read := ""
		if s.Bytes > 0 {
			read = ", read " + formatSize(s.Bytes)
		}
		walked := ", " + count(int64(s.Snapshots), "snapshot", "snapshots") + " with " + count(s.Nodes, "node", "nodes")
		if v.files {
			walked = " without a key"
		}
		p.out.printf("verified %s with %s%s%s, in %s\n", count(int64(s.Volumes), "volume", "volumes"),
			count(s.Frames, "frame", "frames"), walked, read, formatElapsed(seconds))
		if s.Findings == 0 {
			p.out.print("no damage found\n")
		}
	}
	return v.remains()
}

// eachEvent makes the JSON objects of a finding.
func (v *verifyReport) eachEvent(f store.Finding, fn func(findingEvent)) {
	e := findingEvent{
		Event: "finding", Problem: string(f.Problem), Offset: f.Offset, Length: f.Length, Error: f.Text, Healed: f.Healed,
		Snapshots: []string{}, Paths: []string{},
	}
	if !f.Volume.IsZero() {
		e.Volume = f.Volume.String()
	}
	if len(f.Blobs) == 0 {
		fn(e)
	}
	for _, b := range f.Blobs {
		of := e
		of.Blob = b.ID.String()
		if hit := v.blobs[b.ID]; hit != nil && len(hit.paths) > 0 {
			of.Snapshots, of.Paths, of.Base64 = hit.snapshots, hit.paths, base64Paths(hit.paths)
		}
		fn(of)
	}
}

// pathsShown is how many paths of a finding are shown to people, unless they want all.
const pathsShown = 10

func (p *program) printFinding(v *verifyReport, f store.Finding) error {
	if err := p.out.printf("%s%s: %s\n", place(f), f.Problem, p.out.name(f.Text)); err != nil || f.Healed && !p.global.verbose {
		return err
	}
	var lost, unneeded []store.VerifiedBlob
	for _, b := range f.Blobs {
		if hit := v.blobs[b.ID]; hit != nil && len(hit.paths) > 0 && !f.Healed {
			lost = append(lost, b)
		} else {
			unneeded = append(unneeded, b)
		}
	}
	if len(lost) > 0 {
		return p.printHit(v, lost)
	}
	for i, b := range unneeded {
		if i == pathsShown && !p.global.verbose {
			p.out.printf("  and %s more\n", count(int64(len(unneeded)-i), "blob", "blobs"))
			break
		}
		p.out.printf("  blob %s\n", b.ID)
	}
	if len(unneeded) > 0 && !f.Healed {
		return p.out.print("  no snapshot needs it\n")
	}
	return nil
}

// printHit names blobs, each with the paths that need it and were not named yet.
func (p *program) printHit(v *verifyReport, blobs []store.VerifiedBlob) error {
	shown, more := 0, 0
	seen := map[string]bool{}
	all := func() bool { return shown < pathsShown || p.global.verbose }
	for _, b := range blobs {
		hit := v.blobs[b.ID]
		if all() {
			p.out.printf("  blob %s\n", b.ID)
		}
		for _, path := range hit.paths {
			line := hit.in[path].ref + ":" + path
			switch {
			case seen[line]:
			case all():
				shown++
				p.out.printf("  %s%s\n", p.out.name(line), inAll(hit.in[path].snapshots))
			default:
				more++
			}
			seen[line] = true
		}
	}
	if more > 0 {
		return p.out.printf("  and %s more; --verbose shows all\n", count(int64(more), "path", "paths"))
	}
	return nil
}

// place says where something was found.
func place(f store.Finding) string {
	switch {
	case f.Volume.IsZero():
		return ""
	case f.Offset < 0:
		return fmt.Sprintf("volume %s: ", f.Volume)
	}
	return fmt.Sprintf("volume %s at %d: ", f.Volume, f.Offset)
}

func inAll(snapshots int) string {
	if snapshots < 2 {
		return ""
	}
	return fmt.Sprintf(" (and in %s)", count(int64(snapshots-1), "other snapshot", "other snapshots"))
}
