package main

import (
	"snapfs/store"
)

// volumeObject is a volume in JSON.
type volumeObject struct {
	ID            string `json:"id"`
	Kind          string `json:"kind"`
	Bytes         int64  `json:"bytes"`
	Blobs         int64  `json:"blobs"`
	Sealed        bool   `json:"sealed"`
	Missing       bool   `json:"missing"`
	DamagedFrames int    `json:"damaged_frames"`
	Verified      string `json:"verified,omitempty"`
}

func newVolumeObjects(list []store.VolumeInfo) []volumeObject {
	out := make([]volumeObject, len(list))
	for i, v := range list {
		out[i] = volumeObject{v.ID.String(), kindWord(v), v.Size, v.Blobs, v.Sealed, v.Missing, v.Damaged, jsonTime(v.Verified)}
	}
	return out
}

// kindWord names what a volume is for, as its label does.
func kindWord(v store.VolumeInfo) string {
	switch v.Kind {
	case store.VolumeData:
		return "data"
	case store.VolumeMetadata:
		return "metadata"
	case store.VolumeJournal:
		return "journal"
	}
	return "unknown"
}

// printVolumeList lists volumes with when they were last verified.
func (p *program) printVolumeList(list []store.VolumeInfo) error {
	t := newTable("volume", "kind", ">size", ">blobs", "verified", "")
	for _, v := range list {
		verified, note := "never", ""
		if !v.Verified.IsZero() {
			verified = p.localTime(v.Verified)
		}
		switch {
		case v.Missing:
			note = "missing"
		case v.Damaged > 0:
			note = count(int64(v.Damaged), "damaged frame", "damaged frames")
		case !v.Sealed:
			note = "not sealed"
		}
		t.add(v.ID.String(), kindWord(v), formatSize(v.Size), formatCount(v.Blobs), verified, note)
	}
	return t.write(p.out)
}
