package store

import (
	"errors"
	"math"

	"snapfs/store/volume"
	"snapfs/store/wire"
)

func wirePrune(o PruneOptions) *wire.Prune {
	return &wire.Prune{MaxWaste: math.Float64bits(o.MaxWaste), MaxRewrite: o.MaxRewrite, DryRun: o.DryRun, Forget: wireIDs(o.Forget)}
}

func storePrune(m *wire.Prune) PruneOptions {
	return PruneOptions{MaxWaste: math.Float64frombits(m.MaxWaste), MaxRewrite: m.MaxRewrite, DryRun: m.DryRun, Forget: storeIDs(m.Forget)}
}

func wirePruneResult(r PruneResult) *wire.PruneResult {
	m := &wire.PruneResult{
		Removed: wirePruned(r.Removed), Rewritten: wirePruned(r.Rewritten), BytesFreed: r.BytesFreed, Bytes: r.Bytes, Waste: r.Waste,
		Missing: r.Missing, Purged: r.Purged,
	}
	for _, d := range r.Damaged {
		m.Damaged = append(m.Damaged, wire.PruneDamage{Volume: d.Volume, Offset: d.Offset, Blob: d.ID, Cause: d.Err.Error()})
	}
	return m
}

func storePruneResult(m *wire.PruneResult) PruneResult {
	r := PruneResult{
		Removed: storePruned(m.Removed), Rewritten: storePruned(m.Rewritten), BytesFreed: m.BytesFreed, Bytes: m.Bytes, Waste: m.Waste,
		Missing: m.Missing, Purged: m.Purged,
	}
	for _, d := range m.Damaged {
		r.Damaged = append(r.Damaged, &CorruptError{Volume: d.Volume, Offset: d.Offset, ID: d.Blob, Err: errors.New(d.Cause)})
	}
	return r
}

func wirePruned(list []PrunedVolume) (out []wire.PrunedVolume) {
	for _, v := range list {
		out = append(out, wire.PrunedVolume{ID: v.ID, Kind: uint8(v.Kind), Size: v.Size})
	}
	return out
}

func storePruned(list []wire.PrunedVolume) (out []PrunedVolume) {
	for _, v := range list {
		out = append(out, PrunedVolume{ID: v.ID, Kind: volume.Kind(v.Kind), Size: v.Size})
	}
	return out
}
