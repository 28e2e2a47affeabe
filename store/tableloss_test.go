package store

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// layout is where the parts of a sealed volume lie.
type layout struct {
	kind    volume.Kind
	label   int64 // its length
	trailer volume.Trailer
	tables  []volume.Range
	parity  []volume.Range
	blobs   []volume.Range // frames
}

func layoutOf(t testing.TB, b []byte) (l layout) {
	t.Helper()
	r := bytes.NewReader(b)
	label, length, err := volume.ReadLabel(r, r.Size())
	must(t, err)
	l.kind, l.label = label.Kind, int64(length)
	l.trailer, err = volume.ReadTrailer(r, r.Size())
	must(t, err)
	_, _, err = volume.Scan(r, 0, r.Size(), label.Volume, func(offset int64, h volume.Header) error {
		at := volume.Range{Offset: offset, Length: int64(h.Stored())}
		switch h.Kind {
		case volume.FrameContents:
			l.tables = append(l.tables, at)
		case volume.FrameParity:
			l.parity = append(l.parity, at)
		case volume.FrameBlobs:
			l.blobs = append(l.blobs, at)
		}
		return nil
	})
	must(t, err)
	return l
}

func wipe(b []byte, ranges ...volume.Range) []byte {
	for _, r := range ranges {
		clear(b[r.Offset:r.End()])
	}
	return b
}

// tableDamages destroy what describes a volume, and no frame of blobs.
var tableDamages = []struct {
	name string
	do   func(b []byte, l layout) []byte
}{
	{"table", func(b []byte, l layout) []byte { return wipe(b, l.tables...) }},
	{"a byte of the table", func(b []byte, l layout) []byte { b[l.tables[0].End()-1] ^= 1; return b }},
	{"trailer", func(b []byte, _ layout) []byte { clear(b[len(b)-volume.TrailerSize:]); return b }},
	{"table and trailer", func(b []byte, l layout) []byte { clear(b[l.trailer.Contents:]); return b }},
	{"cut off before the table", func(b []byte, l layout) []byte { return b[:l.trailer.Contents] }},
	{"cut off in the table", func(b []byte, l layout) []byte { return b[:l.trailer.Contents+70] }},
	{"label", func(b []byte, l layout) []byte { clear(b[:l.label]); return b }},
	{"both labels", func(b []byte, l layout) []byte {
		clear(b[:l.label])
		clear(b[l.trailer.Label : len(b)-volume.TrailerSize])
		return b
	}},
	{"label, table and trailer", func(b []byte, l layout) []byte {
		clear(b[:l.label])
		clear(b[l.trailer.Contents:])
		return b
	}},
}

// storeWith makes a store with that much parity and one snapshot.
func storeWith(t testing.TB, parity int, data [][]byte) (dir string, ids []ID) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "store")
	must(t, Init(t.Context(), dir, InitOptions{Slots: []seal.NewSlot{{KeyFile: testKey}}, Parity: parity}))
	st := openStore(t, dir)
	ids, _ = putAll(t, st, "d", "one", data)
	closeStore(t, st)
	return dir, ids
}

// changeVolumes exchanges the content of the volumes of some kinds; parity is destroyed. It returns what they were.
func changeVolumes(t testing.TB, dir string, change func(b []byte, l layout) []byte, kinds ...volume.Kind) (before map[string]layout) {
	t.Helper()
	before = map[string]layout{}
	for path, b := range readVolumes(t, dir) {
		if l := layoutOf(t, b); slices.Contains(kinds, l.kind) {
			before[path] = l
			must(t, os.WriteFile(path, change(wipe(b, l.parity...), l), 0o600))
		}
	}
	if len(before) != len(kinds) {
		t.Fatalf("%d volumes, want %d", len(before), len(kinds))
	}
	return before
}

// TestVolumesWithoutTable: volumes of which nothing is lost but what describes them are whole, or replaced by whole ones, after one
// repair.
func TestVolumesWithoutTable(t *testing.T) {
	data := blobs(1, 100, 150_000, 300_000)
	for _, parity := range []int{NoParity, DefaultParity} {
		for _, damage := range tableDamages {
			for _, index := range []bool{true, false} {
				t.Run(fmt.Sprintf("parity %d/%s/index %v", parity, damage.name, index), func(t *testing.T) {
					dir, ids := storeWith(t, parity, data)
					changeVolumes(t, dir, damage.do, volume.Data, volume.Metadata)
					if !index {
						must(t, os.RemoveAll(filepath.Join(dir, indexName)))
					}
					st := openStore(t, dir)
					if sum, findings := verified(t, st.session, VerifyOptions{Data: true, Repair: true}); sum.Findings != sum.Healed {
						t.Errorf("not repaired: %+v", findings)
					}
					wantWhole(t, dir, st, ids, data)
				})
			}
		}
	}
}

// wantWhole demands that nothing is found in a store with one snapshot, also with an index made anew, and closes it.
func wantWhole(t *testing.T, dir string, st *Store, ids []ID, data [][]byte) {
	t.Helper()
	for range 2 {
		checkAll(t, st, ids, data)
		if sum := wantClean(t, st.session, VerifyOptions{Data: true}); sum.Snapshots != 1 {
			t.Errorf("%+v", sum)
		}
		st = reindex(t, st, func() *Store { return openStore(t, dir) })
	}
	closeStore(t, st)
	kinds := map[volume.Kind]bool{}
	for _, b := range readVolumes(t, dir) {
		kinds[layoutOf(t, b).kind] = true
	}
	if len(kinds) != 3 {
		t.Errorf("volumes of kinds %v", kinds)
	}
}

// TestFramesDamagedWithoutTable: a frame is damaged as well. Just what was in it is lost, and named, until it is stored anew.
func TestFramesDamagedWithoutTable(t *testing.T) {
	data := blobs(1, 140_000, 150_000, 160_000)
	for _, damage := range tableDamages {
		for _, index := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/index %v", damage.name, index), func(t *testing.T) {
				dir, ids := storeWith(t, NoParity, data)
				changeVolumes(t, dir, func(b []byte, l layout) []byte {
					b[l.blobs[1].End()-1] ^= 1
					return damage.do(b, l)
				}, volume.Data)
				if !index {
					must(t, os.RemoveAll(filepath.Join(dir, indexName)))
				}
				st := openStore(t, dir)
				for _, o := range []VerifyOptions{{Data: true}, {Data: true, Repair: true}, {Data: true}, {Data: true, Repair: true}} {
					if lost := lostIn(t, st, o); !maps.Equal(lost, map[ID]bool{ids[1]: true}) {
						t.Errorf("%+v: lost are %v", o, lost)
					}
				}
				checkAll(t, st, []ID{ids[0], ids[2]}, [][]byte{data[0], data[2]})
				storeAnew(t, st, data[1])
				if lost := lostIn(t, st, VerifyOptions{Data: true, Repair: true}); len(lost) > 0 {
					t.Errorf("stored anew, and lost are %v", lost)
				}
				wantWhole(t, dir, st, ids, data)
			})
		}
	}
}

// lostIn verifies and returns the blobs that cannot be had.
func lostIn(t *testing.T, st *Store, o VerifyOptions) map[ID]bool {
	t.Helper()
	lost := map[ID]bool{}
	_, findings := verified(t, st.session, o)
	for _, f := range findings {
		for _, b := range f.Blobs {
			if !f.Healed {
				lost[b.ID] = true
			}
		}
	}
	return lost
}

// storeAnew stores a blob as the next backup would.
func storeAnew(t *testing.T, st *Store, data []byte) {
	t.Helper()
	w := st.NewWriter()
	_, err := w.Put(t.Context(), KindChunk, data)
	must(t, err)
	must(t, w.Flush(t.Context()))
}

// TestWholeFramesBesideLoss: a volume without its table is replaced although something else is lost.
func TestWholeFramesBesideLoss(t *testing.T) {
	data := blobs(1, 140_000, 150_000)
	dir, ids := storeWith(t, NoParity, data)
	changeVolumes(t, dir, func(b []byte, l layout) []byte { b[l.blobs[1].End()-1] ^= 1; return b }, volume.Data)
	changed := changeVolumes(t, dir, tableDamages[0].do, volume.Metadata)
	st := openStore(t, dir)
	defer closeStore(t, st)
	if lost := lostIn(t, st, VerifyOptions{Data: true, Repair: true}); !maps.Equal(lost, map[ID]bool{ids[1]: true}) {
		t.Errorf("lost are %v", lost)
	}
	for path := range changed {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the volume of nodes is still there: %v", err)
		}
	}
}

// TestUnneededDamageGoes: a repair drops damaged frames that nothing needs, however small; not while a snapshot that was forgotten
// may be wanted again.
func TestUnneededDamageGoes(t *testing.T) {
	for _, table := range []bool{true, false} {
		for _, way := range []string{"", "reindex", "rebuild"} {
			t.Run(fmt.Sprintf("table %v/%s", table, way), func(t *testing.T) {
				data := blobs(1, 140_000, 150_000, 160_000)
				dir := filepath.Join(t.TempDir(), "store")
				must(t, Init(t.Context(), dir, InitOptions{Slots: []seal.NewSlot{{KeyFile: testKey}}, Parity: NoParity}))
				repair := VerifyOptions{Data: true, Repair: true}
				st := openStore(t, dir)
				ids, _ := putAll(t, st, "d", "one", data[1:])
				_, gone := putAll(t, st, "d", "two", data)
				places, err := st.Locate(t.Context(), []ID{st.BlobID(KindChunk, data[0])})
				must(t, err)
				closeStore(t, st)
				path := volumePath(dir, places[0].Volume)
				b, err := os.ReadFile(path)
				must(t, err)
				l := layoutOf(t, b)
				b[places[0].Offset+int64(places[0].Stored)-1] ^= 1
				if !table {
					wipe(b, l.tables...)
				}
				must(t, os.WriteFile(path, b, 0o600))
				st = openStore(t, dir)
				wantLost := func() {
					t.Helper()
					if lost := lostIn(t, st, repair); len(lost) != 1 {
						t.Errorf("lost are %v", lost)
					}
				}
				wantLost()
				forgetAll(t, st, gone)
				wantLost()
				mustPrune(t, st, PruneOptions{MaxWaste: 100})
				switch way {
				case "reindex":
					must(t, engineOf(st).reindex())
					closeStore(t, st)
					st = openStore(t, dir)
				case "rebuild":
					must(t, st.Rebuild(t.Context(), nil))
				}
				if sum, findings := verified(t, st.session, repair); sum.Findings == 0 || sum.Findings != sum.Healed {
					t.Errorf("left: %+v", findings)
				}
				wantWhole(t, dir, st, ids, data[1:])
			})
		}
	}
}

// TestDamageThatAnInterruptedBackupNeeds: what only the next run of a backup relies on is not dropped behind its back.
func TestDamageThatAnInterruptedBackupNeeds(t *testing.T) {
	data := blobs(1, 140_000, 150_000)
	dir := filepath.Join(t.TempDir(), "store")
	must(t, Init(t.Context(), dir, InitOptions{Slots: []seal.NewSlot{{KeyFile: testKey}}, Parity: NoParity}))
	st := openStore(t, dir)
	ids, _ := putAll(t, st, "d", "one", data[1:])
	w := st.NewWriter()
	only, err := w.Put(t.Context(), KindChunk, data[0])
	must(t, err)
	manifest, err := w.Put(t.Context(), KindManifest, only[:])
	must(t, err)
	must(t, w.Flush(t.Context()))
	_, err = st.Commit(t.Context(), Commit{Dataset: "d", Snapshot: manifest, Name: "half", Partial: true})
	must(t, err)
	closeStore(t, st)
	changeVolumes(t, dir, func(b []byte, l layout) []byte { b[l.blobs[1].End()-1] ^= 1; return b }, volume.Data)
	st = openStore(t, dir)
	for range 2 {
		if lost := lostIn(t, st, VerifyOptions{Data: true, Repair: true}); !lost[only] {
			t.Error("it is dropped")
		}
	}
	if list, err := st.DamagedBlobs(t.Context()); err != nil || !slices.Equal(list, []ID{only}) {
		t.Errorf("the next run is told of %v, %v", list, err)
	}
	putAll(t, st, "d", "two", data)
	if lost := lostIn(t, st, VerifyOptions{Data: true, Repair: true}); len(lost) > 0 {
		t.Errorf("lost are %v", lost)
	}
	checkAll(t, st, ids, data[1:])
	closeStore(t, st)
}
