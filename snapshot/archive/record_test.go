package archive

import (
	"reflect"
	"testing"
	"time"

	"snapfs/store"
	"snapfs/store/volume"
)

type encoder interface{ encode() []byte }

func testRecords() []encoder {
	at := time.Unix(1_790_000_000, 5).UTC()
	return []encoder{
		&Head{
			Set: SetID{1}, Name: "sunday", Pool: "default", Level: volume.Incremental, Parent: SetID{2}, Number: 3, Created: at, Store: [16]byte{7}, ChunkAverage: 1 << 19,
			Snapshots: []SnapshotRecord{{ID: store.ID{9}, Dataset: "etc", Name: "2026-11-22_03-15-07", Start: at, Slot: 4, Summary: []byte("s"), Tags: []string{"a", "b"}, Committed: at}, {ID: store.ID{10}}},
			Chain:     []ChainSet{{Set: SetID{2}, Name: "full", Level: volume.Full, Volumes: 4, Location: "vault 3", Created: at}},
			KeepUntil: at, MetadataBlobs: 1, MetadataBytes: 2, Chunks: 3, ChunkBytes: 4, Program: "p", ParityVolumes: 2,
		},
		&MetadataDone{Blobs: 7, Bytes: 8},
		&TableBefore{Volume: volume.ID{1}, Number: 2, Whole: 3, Part: []byte("part")},
		&End{Set: SetID{1}, Volumes: []VolumeRecord{{volume.ID{1}, 1, 100}, {volume.ID{2}, 2, 0}}, MetadataBlobs: 1, Chunks: 2, Bytes: 3, Lost: 4, Finished: at},
	}
}

func TestRecords(t *testing.T) {
	for _, r := range testRecords() {
		got, err := parseRecord(r.encode())
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%T: got %+v, %v", r, got, err)
		}
	}
	if got, err := parseRecord([]byte{200, 1, 2}); got != nil || err != nil {
		t.Errorf("unknown type: %v, %v", got, err)
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range testRecords() {
		f.Add(r.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil || r == nil {
			return
		}
		again, err := parseRecord(r.(encoder).encode())
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v became %+v: %v", r, again, err)
		}
	})
}
