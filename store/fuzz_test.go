package store

import (
	"bytes"
	"testing"
	"time"

	"snapfs/store/volume"
)

// everyBody has one body of each kind of fact.
func everyBody() []FactBody {
	vols := []sealedVolume{{volume.ID{1}, volume.Data, 4096}, {volume.ID{2}, volume.Journal, 1 << 40}}
	start := time.Unix(1, 5).UTC()
	return []FactBody{
		&commitFact{snapshot: ID{1}, slot: 2, dataset: 3, name: "n", start: start, tags: []string{"a", "b"}, summary: []byte("s"), volumes: vols},
		&commitFact{partial: true, snapshot: ID{1}, slot: 2, dataset: 3},
		&forgetFact{kind: FactForget, snaps: []forgotten{{ID{3}, 4, 5, "x"}, {ID{4}, 4, 5, ""}}},
		&forgetFact{kind: FactUnforget, snaps: []forgotten{{ID{3}, 4, 5, "x"}}},
		&forgetFact{kind: FactPurge, snaps: []forgotten{{ID{3}, 4, 5, "x"}}},
		&holdFact{kind: FactHold, snapshot: ID{1}, until: start, forever: true},
		&holdFact{kind: FactRelease, snapshot: ID{1}},
		&tagFact{snapshot: ID{1}, add: []string{"x"}, remove: []string{"y", "z"}},
		&datasetFact{number: 1, name: "etc", settings: []byte{1}},
		&volumesFact{kind: FactVolumeSealed, list: vols},
		&volumesFact{kind: FactVolumeDropped, list: vols},
		&volumesFact{kind: FactReplaced, list: vols, by: vols},
		&checkpointFact{records: []byte{1}, replaced: ID{9}, count: 7, tail: []ID{{1}, {2}}},
		&recordFact{kind: FactImport, key: []byte("k"), value: []byte("v")},
		&recordFact{kind: FactArchiveSet, key: []byte("k"), value: []byte("v")},
		&recordFact{kind: FactArchiveState, key: []byte("k")},
		&recordFact{kind: FactPresent, key: []byte("k")},
		&recordFact{kind: FactAbsent, key: []byte("k")},
		&recordFact{kind: FactHead, key: []byte("k")},
		&clockFact{},
		&refusedFact{what: "forget", job: "forget of etc", at: start, attempts: 3},
		&acknowledgedFact{job: "verify", at: start, list: []acknowledged{
			{problem: ChainMissing, seq: 7, text: "facts 7 to 9 are missing"},
			{problem: ChainDamaged, volume: volume.ID{3}, text: "facts in the journal cannot be read"},
			{problem: ChainTwice, volume: volume.ID{4}, seq: 9, fact: ID{5}, text: "twice"},
		}},
	}
}

// FuzzFact: what is accepted re-encodes to the same bytes, unless it held fields this version skips.
func FuzzFact(f *testing.F) {
	for i, b := range everyBody() {
		fact := &Fact{Kind: b.Kind(), Chain: [16]byte{1}, Seq: uint64(i + 1), Prev: ID{2}, Clock: time.Unix(0, 9), Body: encodeBody(b), Critical: i%2 == 0}
		f.Add(fact.encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fact, err := parseFact(data)
		if err != nil || skipsFields(data, 9) {
			return
		}
		if again := fact.encode(); !bytes.Equal(again, data) {
			t.Fatalf("%x\nre-encodes to\n%x", data, again)
		}
		body := newBody(fact.Kind)
		if body == nil {
			return
		}
		r := ReadFields(fact.Body)
		for r.Next() {
			body.decode(&r)
		}
		if r.Err() != nil || r.Skipped() {
			return
		}
		if again := encodeBody(body); !bytes.Equal(again, fact.Body) {
			t.Fatalf("body %x\nre-encodes to\n%x", fact.Body, again)
		}
		fold := newFold()
		if err := fold.apply(fact, ID{1}); err == nil {
			_ = fold.state(func([]sealedVolume) string { return "" })
		}
	})
}

// skipsFields reports whether a record has a tag above those in use.
func skipsFields(data []byte, used uint32) bool {
	r := ReadFields(data)
	for r.Next() {
		if uint32(r.Tag().Number()) > used {
			return true
		}
	}
	return false
}

func TestFoldRoundTripsThroughCheckpoint(t *testing.T) {
	f := newFold()
	for i, b := range everyBody() {
		if b.Kind() == FactCheckpoint {
			continue
		}
		fact := &Fact{Kind: b.Kind(), Seq: uint64(i + 1), Body: encodeBody(b)}
		if err := f.apply(fact, ID{byte(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	f.nextSlot, f.nextDataset = 77, 88 // of snapshots and datasets that are gone
	all := f.checkpoint()
	again := newFold()
	again.snapshots[5], again.dropped[volume.ID{9}] = &snapshotRecord{}, volume.Data // and are not in the checkpoint
	err := again.apply(&Fact{Kind: FactCheckpoint, Seq: 99, Body: encodeBody(&checkpointFact{records: all})}, ID{99})
	if err != nil {
		t.Fatal(err)
	}
	if again.seq != 99 || again.last != (ID{99}) {
		t.Errorf("the chain is at fact %d", again.seq)
	}
	again.chain, again.seq, again.last, again.base = f.chain, f.seq, f.last, f.base
	if !bytes.Equal(again.checkpoint(), all) {
		t.Errorf("fold\n%x\nafter a checkpoint\n%x", all, again.checkpoint())
	}
	for _, key := range []string{string(numberKey(keySnapshot, 5)), string(recordKey(FactVolumeDropped, append([]byte{9}, make([]byte, 15)...)))} {
		if value, ok := again.dirty[key]; !ok || value != nil {
			t.Errorf("record %x stays in the index", key)
		}
	}
}

func TestUnknownFacts(t *testing.T) {
	f := newFold()
	if err := f.apply(&Fact{Kind: 200, Seq: 1, Body: []byte("anything")}, ID{1}); err != nil {
		t.Errorf("unknown fact: %v", err)
	}
	if err := f.apply(&Fact{Kind: 200, Seq: 2, Critical: true}, ID{2}); err == nil {
		t.Error("unknown critical fact accepted")
	}
}

// FuzzRecords: records of the index are refused or harmless.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{keySnapshot, 0, 0, 0, 1}, (&snapshotRecord{commitFact: commitFact{snapshot: ID{1}}}).encode())
	f.Add([]byte(chainKey), newFold().encodeChain())
	f.Add([]byte{keyRecord, byte(FactVolumeSealed)}, []byte{1})
	f.Add([]byte{keyDataset, 0, 0, 0, 1}, encodeBody(&datasetFact{number: 1, name: "d"}))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		fold := newFold()
		_ = fold.load(key, value)
		_, _ = parseVolumeState(volume.ID{}, value)
		_, _ = parseShortPlace(value)
		_ = fold.restart(&checkpointFact{records: value}, ID{})
	})
}
