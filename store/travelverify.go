package store

import (
	"snapfs/store/volume"
	"snapfs/store/wire"
)

func wireVerifyEvent(e VerifyEvent) *wire.VerifyEvent {
	out := &wire.VerifyEvent{Begin: e.Begin, Progress: wire.VerifyProgress(e.Progress)}
	if f := e.Finding; f != nil {
		found := wire.Finding{
			Problem: string(f.Problem), Volume: f.Volume, Offset: f.Offset, Length: f.Length, Text: f.Text, Healed: f.Healed,
		}
		for _, b := range f.Blobs {
			found.Blobs = append(found.Blobs, wire.FoundBlob{Kind: uint8(b.Kind), ID: b.ID})
		}
		out.Findings = []wire.Finding{found}
	}
	return out
}

func storeVerifyEvent(e *wire.VerifyEvent) VerifyEvent {
	out := VerifyEvent{Begin: e.Begin, Progress: VerifyProgress(e.Progress)}
	if len(e.Findings) == 0 {
		return out
	}
	f := e.Findings[0]
	out.Finding = &Finding{
		Problem: Problem(f.Problem), Volume: f.Volume, Offset: f.Offset, Length: f.Length, Text: f.Text, Healed: f.Healed,
	}
	for _, b := range f.Blobs {
		out.Finding.Blobs = append(out.Finding.Blobs, VerifiedBlob{Kind: Kind(b.Kind), ID: b.ID})
	}
	return out
}

func wireVolumes(list []VolumeInfo) *wire.Volumes {
	out := &wire.Volumes{}
	for _, v := range list {
		out.Volumes = append(out.Volumes, wire.Volume{
			ID: v.ID, Kind: uint8(v.Kind), Size: v.Size, Blobs: v.Blobs, Sealed: v.Sealed, Missing: v.Missing, Damaged: v.Damaged,
			Verified: v.Verified,
		})
	}
	return out
}

func storeVolumes(m *wire.Volumes) []VolumeInfo {
	var list []VolumeInfo
	for _, v := range m.Volumes {
		list = append(list, VolumeInfo{
			ID: v.ID, Kind: volume.Kind(v.Kind), Size: v.Size, Blobs: v.Blobs, Sealed: v.Sealed, Missing: v.Missing, Damaged: v.Damaged,
			Verified: v.Verified,
		})
	}
	return list
}
