package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"snapfs/store/volume"
)

// testReferences reads what putAll and packOf make: a manifest is IDs of chunks and a name.
func testReferences(kind Kind, data []byte, visit func(Kind, ID)) error {
	if kind != KindManifest {
		return nil
	}
	for ; len(data) >= len(ID{}); data = data[len(ID{}):] {
		visit(KindChunk, ID(data))
	}
	return nil
}

// verified is what Verify tells of a store.
func verified(t testing.TB, s Session, o VerifyOptions) (VerifySummary, []Finding) {
	t.Helper()
	var findings []Finding
	sum, err := s.Verify(context.Background(), o, func(e VerifyEvent) error {
		if e.Begin {
			findings = nil
		}
		if e.Finding != nil {
			findings = append(findings, *e.Finding)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if int(sum.Findings) != len(findings) {
		t.Errorf("%d findings told, %d counted", len(findings), sum.Findings)
	}
	return sum, findings
}

func wantClean(t testing.TB, s Session, o VerifyOptions) VerifySummary {
	t.Helper()
	sum, findings := verified(t, s, o)
	for _, f := range findings {
		t.Errorf("found %+v", f)
	}
	return sum
}

// checkVerify: a store in use is whole; a destroyed frame is found, with its blobs, and forgotten when it is whole again.
func checkVerify(t *testing.T, open sessionMaker) {
	ctx := t.Context()
	s, keys := open(t)
	f, ids := packOf(keys, blobs(1, 1000, 2000)...)
	_, err := s.Put(ctx, f)
	must(t, err)
	manifest := testManifest(keys, ids)
	_, err = s.Put(ctx, manifest)
	must(t, err)
	_, err = s.Commit(ctx, Commit{Dataset: "d", Snapshot: manifest.Blobs[0].ID, Name: "n"})
	must(t, err)
	if sum := wantClean(t, s, VerifyOptions{Data: true}); sum.Snapshots != 1 || sum.Nodes != 1 || sum.Frames < 3 || sum.Bytes == 0 {
		t.Errorf("summary %+v", sum)
	}
	must(t, s.Rebuild(ctx, nil)) // seals what is written
	wantClean(t, s, VerifyOptions{})
	wantClean(t, s, VerifyOptions{Data: true, Percent: 1})
	places, err := s.Locate(ctx, ids)
	must(t, err)
	flipByte(t, fileOf(t, places[0].Volume), places[0].Offset+100)
	wantClean(t, s, VerifyOptions{})
	for _, o := range []VerifyOptions{{Data: true}, {}} { // what was found is not forgotten
		sum, findings := verified(t, s, o)
		if len(findings) != 1 || findings[0].Problem != ProblemFrame || findings[0].Volume != places[0].Volume ||
			findings[0].Offset != places[0].Offset || len(findings[0].Blobs) != 2 || sum.Healed != 0 {
			t.Errorf("%+v: found %+v", o, findings)
		}
	}
	list, err := s.Volumes(ctx)
	must(t, err)
	if i := slices.IndexFunc(list, func(v VolumeInfo) bool { return v.ID == places[0].Volume }); i < 0 || list[i].Damaged != 1 ||
		list[i].Kind != volume.Data || list[i].Blobs != 2 || !list[i].Sealed || time.Since(list[i].Verified) > time.Hour {
		t.Errorf("volumes %+v", list)
	}
	flipByte(t, fileOf(t, places[0].Volume), places[0].Offset+100)
	wantClean(t, s, VerifyOptions{Data: true})
	wantClean(t, s, VerifyOptions{})
	if _, err := s.Verify(ctx, VerifyOptions{Percent: 101}, func(VerifyEvent) error { return nil }); err == nil {
		t.Error("101 per cent are verified")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Verify(cancelled, VerifyOptions{}, func(VerifyEvent) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// testManifest is a frame with a manifest that names chunks.
func testManifest(keys idKeys, ids []ID) Frame {
	data := joinIDs(ids)
	id := keys.id(KindManifest, data)
	f := Frame{Class: ClassMetadata, Blobs: []volume.Blob{{Kind: uint8(KindManifest), ID: id, Length: uint32(len(data))}}}
	f.Pack = volume.NewPacker(volume.LevelFastest).Pack(nil, f.Blobs, data)
	return f
}

// TestVerifyPercentComesRound: repeated runs read the volumes verified longest ago.
func TestVerifyPercentComesRound(t *testing.T) {
	dir := newStore(t)
	for i := range 5 {
		st := openStore(t, dir)
		putAll(t, st, "d", fmt.Sprint(i), blobs(uint64(i), 20_000, 500))
		closeStore(t, st)
	}
	st := openStore(t, dir)
	defer func() { closeStore(t, st) }()
	volumes, err := st.Volumes(t.Context())
	if err != nil || len(volumes) < 10 {
		t.Fatalf("%d volumes, %v", len(volumes), err)
	}
	for range volumes {
		wantClean(t, st.session, VerifyOptions{Data: true, Percent: 0.001})
	}
	closeStore(t, st)
	st = openStore(t, dir)
	if err := st.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if volumes, err = st.Volumes(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes {
		if v.Verified.IsZero() && v.Sealed {
			t.Errorf("volume %s of kind %d has not been verified", v.ID, v.Kind)
		}
	}
}

// TestVerifyWrongIndex: entries of the index that are absent, or say of a volume what is not so, are found and mended.
func TestVerifyWrongIndex(t *testing.T) {
	dir := newStore(t)
	data := blobs(1, 100, 200_000, 300)
	st := openStore(t, dir)
	ids, _ := putAll(t, st, "d", "one", data)
	closeStore(t, st)
	st = openStore(t, dir)
	defer func() { closeStore(t, st) }()
	e := st.session.(*lastingSession).way.session.(*localSession).e
	wrong, err := e.lookUpShort(ids)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.removeEntry(ids[0]); err != nil {
		t.Fatal(err)
	}
	wrong[1].offset, wrong[1].ordinal = wrong[2].offset, wrong[2].ordinal
	err = e.idx.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		return set(blobKey(ids[1]), wrong[1].encode())
	})
	if err != nil {
		t.Fatal(err)
	}
	sum, findings := verified(t, st.session, VerifyOptions{})
	if sum.Findings != 2 || sum.Healed != 2 {
		t.Errorf("%+v: %+v", sum, findings)
	}
	wantClean(t, st.session, VerifyOptions{Data: true})
	checkAll(t, st, ids, data)
}

// TestVerifyLostBlob: what a snapshot names and no volume holds is told, and known until it is stored again.
func TestVerifyLostBlob(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	defer func() { closeStore(t, st) }()
	gone := ID{1, 2, 3}
	w := st.NewWriter()
	id, err := w.Put(t.Context(), KindManifest, gone[:])
	if err == nil {
		err = w.Flush(t.Context())
	}
	if err == nil {
		_, err = st.Commit(t.Context(), Commit{Dataset: "d", Snapshot: id, Name: "n"})
	}
	if err != nil {
		t.Fatal(err)
	}
	sum, findings := verified(t, st.session, VerifyOptions{})
	if len(findings) != 1 || findings[0].Problem != ProblemLost || findings[0].Blobs[0] != (VerifiedBlob{KindChunk, gone}) || sum.Healed != 0 {
		t.Errorf("%+v: %+v", sum, findings)
	}
	if list, err := st.DamagedBlobs(t.Context()); err != nil || !slices.Equal(list, []ID{gone}) {
		t.Errorf("damaged: %v, %v", list, err)
	}
}

// TestVerifyTellsTheTruth destroys bytes anywhere in a store and compares what verify says with what can be read.
func TestVerifyTellsTheTruth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	base := newStore(t)
	st := openStore(t, base)
	data := blobs(1, 100, 200, 5000, 150_000, 300_000, 70_000, 90_000, 10)
	ids, _ := putAll(t, st, "d", "one", data)
	closeStore(t, st)
	files, err := filepath.Glob(filepath.Join(base, volumesName, "*"))
	if err != nil {
		t.Fatal(err)
	}
	tried, well, same := 0, 0, 0
	for range 60 {
		path := files[rng.IntN(len(files))]
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged, what := destroy(rng, whole)
		t.Run(fmt.Sprintf("%s in %s", what, filepath.Base(path)[:4]), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, volumesName, filepath.Base(path)), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(2) == 0 {
				must(t, os.RemoveAll(filepath.Join(dir, indexName)))
			}
			label, _, err := volume.ReadLabel(bytes.NewReader(whole), int64(len(whole)))
			must(t, err)
			// What is cut off the end of a journal can be missed only by whoever knew of it.
			cut := len(damaged) < len(whole) || damaged[len(damaged)-1] != whole[len(whole)-1]
			checkTruth(t, dir, ids, data, bytes.Equal(whole, damaged), label.Kind == volume.Journal && cut)
			tried++
			if checkRepair(t, dir, ids, data) {
				well++
				if sameFile(filepath.Join(dir, volumesName, filepath.Base(path)), whole) {
					same++
				}
			}
		})
	}
	t.Logf("of %d damaged stores %d are whole again, %d with the exact former bytes", tried, well, same)
}

// checkRepair: what a repair calls healed is so, and nothing is worse than before. It reports whether all is well.
func checkRepair(t *testing.T, dir string, ids []ID, data [][]byte) bool {
	st := openStore(t, dir)
	defer closeStore(t, st)
	_, before := verified(t, st.session, VerifyOptions{Data: true})
	sum, findings := verified(t, st.session, VerifyOptions{Data: true, Repair: true})
	after, left := verified(t, st.session, VerifyOptions{Data: true})
	// Fewer may be left: a journal whose facts a checkpoint repeats need not have its end any more.
	if after.Findings-after.Healed > sum.Findings-sum.Healed || lostBlobs(left) > lostBlobs(before) {
		t.Errorf("before %+v\nrepair %+v\nafter %+v", before, findings, left)
	}
	if len(left) > 0 {
		return false
	}
	if state, err := st.State(t.Context()); err != nil || len(state.Snapshots) != 1 {
		return false // a journal cut off before its parity
	}
	checkAll(t, st, ids, data)
	return true
}

func lostBlobs(findings []Finding) (n int) {
	for _, f := range findings {
		if !f.Healed {
			n += len(f.Blobs)
		}
	}
	return n
}

func sameFile(path string, want []byte) bool {
	got, err := os.ReadFile(path) // an error: its good frames have moved to another volume
	return err == nil && bytes.Equal(got, want)
}

// destroy makes a damaged copy of a volume.
func destroy(rng *rand.Rand, whole []byte) (damaged []byte, what string) {
	b := bytes.Clone(whole)
	at := rng.IntN(len(b))
	switch rng.IntN(5) {
	case 0:
		b[at] ^= byte(1 + rng.IntN(255))
		return b, fmt.Sprintf("flip at %d", at)
	case 1:
		n := min(1+rng.IntN(20_000), len(b)-at)
		clear(b[at : at+n])
		return b, fmt.Sprintf("%d zeros at %d", n, at)
	case 2:
		return b[:at], fmt.Sprintf("cut at %d", at)
	case 3:
		n := min(1+rng.IntN(5000), len(b)-at)
		return slices.Delete(b, at, at+n), fmt.Sprintf("%d removed at %d", n, at)
	}
	b = b[:len(b)-len(b)/4]
	return append(b, make([]byte, len(whole)-len(b))...), "last quarter zero"
}

// checkTruth: verify names just the blobs that cannot be read, and something at all if anything differs.
func checkTruth(t *testing.T, dir string, ids []ID, data [][]byte, same, unnoticed bool) {
	st := openStore(t, dir)
	defer closeStore(t, st)
	sum, findings := verified(t, st.session, VerifyOptions{Data: true})
	if same != (sum.Findings == 0) && !unnoticed {
		t.Errorf("damaged: %v, found %+v", !same, findings)
	}
	named := map[ID]bool{}
	for _, f := range findings {
		for _, b := range f.Blobs {
			named[b.ID] = named[b.ID] || !f.Healed
		}
	}
	state, err := st.State(t.Context())
	must(t, err)
	for i, id := range ids {
		got, err := st.Get(t.Context(), KindChunk, id)
		if err == nil && !bytes.Equal(got, data[i]) {
			t.Fatalf("blob %d is read, and wrong", i)
		}
		if (err != nil) != named[id] && len(state.Snapshots) > 0 {
			t.Errorf("blob %d: read %v, named %v", i, err, named[id])
		}
	}
	again, _ := verified(t, st.session, VerifyOptions{Data: true})
	if again.Findings-again.Healed != sum.Findings-sum.Healed {
		t.Errorf("first %+v, then %+v", sum, again)
	}
}
