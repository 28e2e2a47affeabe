package wire

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// samples has every message with every field set.
func samples() []Message {
	id, other := [32]byte{1, 2, 3}, [32]byte{31: 9}
	then := time.Date(1969, 7, 20, 20, 17, 40, 123456789, time.UTC)
	snapshot := Snapshot{
		ID: id, Slot: 7, DatasetNumber: 2, Dataset: "etc", Name: "2026-11-22_03-15-07", Start: then, Committed: then.Add(time.Hour),
		Tags: []string{"a", "b"}, HeldUntil: then.Add(1e6 * time.Hour), HeldForever: true, Forgotten: true, Partial: true,
		Damaged: "volume is short", Summary: []byte("summary"),
	}
	return []Message{
		&Hello{Session: [16]byte{5}, Job: "backup of etc", Program: "1.0"},
		&Welcome{Program: "1.0", Bundle: []byte("keys")},
		&Empty{},
		&Number{Value: 1 << 63},
		&IDs{IDs: [][32]byte{id, other}},
		&Flags{Flags: []bool{true, false, true}},
		&Put{Class: 1, Pack: []byte("pack")},
		&Places{Places: []Place{{Volume: [16]byte{1}, Offset: -1, Stored: 3, Start: 4, Length: 5}, {}}},
		&Read{Volume: [16]byte{9}, Offset: 1 << 40, Length: 4096},
		&Commit{Dataset: "d", Snapshot: id, Name: "n", Start: then, Tags: []string{""}, Summary: []byte{0}, Partial: true},
		&Facts{Facts: []Fact{{Kind: 8, Body: []byte("body")}, {Kind: 9}}},
		&Lock{Name: "dataset/etc", Job: "backup", Wait: true, Resume: true},
		&VerifyOptions{Data: true, Percent: 2.5, Head: id, Repair: true},
		&VerifyEvent{Begin: true, Progress: VerifyProgress{Phase: "volumes", Volumes: 1, VolumesTotal: 2, Frames: 3, Bytes: 4, BytesTotal: 5, Findings: 6},
			Findings: []Finding{{Problem: "frame", Volume: [16]byte{1}, Offset: -1, Length: 9, Blobs: []FoundBlob{{Kind: 2, ID: other}}, Text: "t", Healed: true}}},
		&VerifySummary{Volumes: 1, Snapshots: 2, Nodes: 3, Frames: 4, Bytes: 5, Findings: 6, Healed: 7},
		&Volumes{Volumes: []Volume{{ID: [16]byte{7}, Kind: 1, Size: 2, Blobs: 3, Sealed: true, Missing: true, Damaged: 4, Verified: then}}},
		&Damaged{Ask: true, Frames: []DamagedFrame{{Volume: [16]byte{3}, Offset: 4096, Blob: id}, {Blob: other}}},
		&Prune{MaxWaste: 1 << 62, MaxRewrite: 5, DryRun: true, Forget: [][32]byte{id}},
		&PruneProgress{Phase: "mark", Done: 1, Total: 2, Blobs: 3, Bytes: 4},
		&PruneResult{Removed: []PrunedVolume{{ID: [16]byte{1}, Kind: 1, Size: 2}}, Rewritten: []PrunedVolume{{Size: 1}, {}}, BytesFreed: 3,
			Bytes: 4, Waste: 5, Missing: 6, Purged: 7, Damaged: []PruneDamage{{Volume: [16]byte{2}, Offset: -1, Blob: other, Cause: "bad"}}},
		&Progress{Volumes: 1, VolumesTotal: 2, Blobs: 3, Bytes: 4},
		&Stats{Volumes: 1, Snapshots: 2, Datasets: 3, KeySlots: 4, Bytes: 5, DataBytes: 6, MetaBytes: 7, JournalBytes: 8,
			ParityBytes: 9, IndexBytes: 10, Blobs: 11, RawBytes: 12, Encrypted: true, StoreID: "x", Created: then},
		&snapshot,
		&StatePart{Seq: 3, Head: other, Snapshots: []Snapshot{snapshot, {}}, Datasets: []Dataset{{Number: 1, Name: "etc"}}},
		&Error{Code: CodeFirstOwn, Text: "text", Data: []byte("data")},
	}
}

// fresh returns an empty message of m's type.
func fresh(m Message) Message { return reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message) }

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	for _, m := range samples() {
		t.Run(fmt.Sprintf("%T", m), func(t *testing.T) {
			data := bytes.Join(Encode(m), nil)
			got := fresh(m)
			if err := Decode(data, got); err != nil || !reflect.DeepEqual(got, m) {
				t.Fatalf("got %+v, %v\nwant %+v", got, err, m)
			}
			if _, isError := m.(*Error); isError {
				return // its data has no length
			}
			if err := Decode(append(data, 0), fresh(m)); err == nil && !endless(m) {
				t.Error("a byte too many is accepted")
			}
			for i := range data {
				if err := Decode(data[:i], fresh(m)); err == nil && !endless(m) {
					t.Errorf("cut at %d is accepted", i)
				} else if err != nil && !errors.Is(err, ErrMessage) {
					t.Errorf("cut at %d: %v", i, err)
				}
			}
		})
	}
}

// endless reports whether the last field of m is bytes up to the end.
func endless(m Message) bool {
	_, put := m.(*Put)
	return put
}

func TestZeroValuesComeBack(t *testing.T) {
	for _, m := range samples() {
		zero := fresh(m)
		got := fresh(m)
		if err := Decode(bytes.Join(Encode(zero), nil), got); err != nil {
			t.Errorf("%T: %v", m, err)
		}
		if s, ok := got.(*Snapshot); ok && !s.HeldUntil.IsZero() {
			t.Error("the zero time is not zero any more")
		}
	}
}

func TestPackIsNotCopied(t *testing.T) {
	m := &Put{Pack: []byte("pack")}
	parts := Encode(m)
	if &parts[len(parts)-1][0] != &m.Pack[0] {
		t.Error("encoding copies the pack")
	}
	data := bytes.Join(parts, nil)
	if err := Decode(data, m); err != nil || &m.Pack[0] != &data[len(data)-4] {
		t.Errorf("decoding copies the pack: %v", err)
	}
}

func TestHostileLengthsAllocateNothing(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff}
	for _, m := range []Message{&IDs{}, &Flags{}, &Places{}, &Facts{}} {
		allocated := testing.AllocsPerRun(10, func() {
			if err := Decode(huge, m); !errors.Is(err, ErrMessage) {
				t.Fatalf("%T: %v", m, err)
			}
		})
		if allocated > 10 { // the error; under the race detector pools give less back
			t.Errorf("%T: %.0f allocations", m, allocated)
		}
	}
}

func TestStateIsSplitAndJoined(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 20_000} {
		whole := &StatePart{Seq: 9, Head: [32]byte{1}}
		for i := range n {
			whole.Snapshots = append(whole.Snapshots, Snapshot{Slot: uint32(i), Start: time.Unix(int64(i), 0).UTC(), Name: "name", Committed: time.Unix(1, 0).UTC(), HeldUntil: time.Unix(2, 0).UTC()})
			whole.Datasets = append(whole.Datasets, Dataset{Number: uint32(i), Name: "dataset"})
		}
		got, parts := &StatePart{}, 0
		err := whole.Split(func(p *StatePart) error {
			parts++
			data := bytes.Join(Encode(p), nil)
			if len(data) > 2*statePartSize {
				t.Errorf("a part of %d bytes", len(data))
			}
			var decoded StatePart
			if err := Decode(data, &decoded); err != nil {
				return err
			}
			got.Join(&decoded)
			return nil
		})
		if err != nil || !reflect.DeepEqual(got, whole) {
			t.Errorf("%d snapshots: not the same after %d parts: %v", n, parts, err)
		}
		if n == 20_000 && parts < 5 {
			t.Errorf("%d parts", parts)
		}
	}
	stop := errors.New("stop")
	if err := (&StatePart{}).Split(func(*StatePart) error { return stop }); err != stop {
		t.Error(err)
	}
}

// FuzzMessages decodes bytes as every message: what is accepted encodes to the same bytes.
func FuzzMessages(f *testing.F) {
	for i, m := range samples() {
		f.Add(uint8(i), bytes.Join(Encode(m), nil))
	}
	kinds := samples()
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		m := fresh(kinds[int(kind)%len(kinds)])
		if err := Decode(data, m); err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if again := bytes.Join(Encode(m), nil); !bytes.Equal(again, data) {
			t.Fatalf("%T: %x encodes to %x", m, data, again)
		}
	})
}

func BenchmarkEncodeHave(b *testing.B) {
	m := &IDs{IDs: make([][32]byte, 512)}
	b.SetBytes(512 * 32)
	b.ReportAllocs()
	for b.Loop() {
		Encode(m)
	}
}

func BenchmarkDecodePlaces(b *testing.B) {
	data := bytes.Join(Encode(&Places{Places: make([]Place, 512)}), nil)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var m Places
		if err := Decode(data, &m); err != nil {
			b.Fatal(err)
		}
	}
}
