package store

import (
	"slices"
	"testing"
	"time"

	"snapfs/store/volume"
)

// TestVerifyWhileNumbersChange: blobs get other numbers while snapshots are walked, as a blob that is lost makes all volumes be read again. Nodes that
// were not visited do not count as visited because of that.
func TestVerifyWhileNumbersChange(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	s := e.newSession("backup")
	node := func(kind Kind, rows ...wanted) (ID, Frame) {
		data := []byte("T")
		for _, r := range rows {
			data = append(append(data, byte(r.kind)), r.id[:]...)
		}
		return blobFrame(e, ClassMetadata, kind, data)
	}
	lost, unseen := ID{1}, ID{2}
	first, a := node(KindNode)
	second, b := node(KindNode, wanted{KindChunk, unseen})
	left, p := node(KindNode, wanted{KindNode, first}, wanted{KindChunk, lost})
	right, q := node(KindNode, wanted{KindNode, second})
	manifest, m := node(KindManifest, wanted{KindNode, left}, wanted{KindNode, right})
	_, err := s.Put(t.Context(), m)
	must(t, err)
	v := e.current[volume.Metadata]
	var later []func()
	for _, f := range []Frame{a, b} { // written at the same time: the one that comes later in the volume is counted first
		_, _, err := v.append(s, volume.FrameBlobs, f.Pack, func(offset int64, stored uint32) {
			later = append(later, func() { e.noteWritten(s, v, offset, stored, f.Blobs) })
		}, f.Blobs)
		must(t, err)
	}
	slices.Reverse(later)
	for _, note := range later {
		note()
	}
	for _, f := range []Frame{p, q} {
		_, err := s.Put(t.Context(), f)
		must(t, err)
	}
	_, err = s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: manifest, Name: "n", Start: time.Unix(1e9, 0)})
	must(t, err)
	sealData(t, e)
	_, findings := verified(t, st.session, VerifyOptions{})
	for _, id := range []ID{lost, unseen} {
		if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Problem == ProblemLost && f.Blobs[0].ID == id }) {
			t.Errorf("blob %s is not found to be lost: %+v", id, findings)
		}
	}
}
